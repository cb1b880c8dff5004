"""Raising the versions that guard what the gate decides on."""

from __future__ import annotations

from django.db import connection


class CustomerUnknown(Exception):
    """No customer has this id."""


def bump(customer_id: int) -> int:
    """Raise a customer's version by one and return it.

    Must run inside the transaction that changes the state. Takes the lock of the customer's row,
    so writers of one customer follow one another. Raises CustomerUnknown.
    """
    row = _raise(
        "UPDATE accounts_customerversion SET version = version + 1 WHERE customer_id = %s "
        "RETURNING version",
        [customer_id],
    )
    if row is None:
        raise CustomerUnknown("There is no such customer.")
    return row


def bump_catalogue() -> int:
    """Raise the version of what all customers share: meters, gateways, offers.

    Must run inside the transaction that makes the change; takes the lock of the single row.
    """
    row = _raise(
        "INSERT INTO accounts_catalogueversion (id, version) VALUES (1, 1) "
        "ON CONFLICT (id) DO UPDATE SET version = accounts_catalogueversion.version + 1 "
        "RETURNING version",
        [],
    )
    assert row is not None
    return row


def _raise(statement: str, values: list[int]) -> int | None:
    assert connection.in_atomic_block, "a version is raised with what it guards"
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        row = cursor.fetchone()
    return None if row is None else int(row[0])
