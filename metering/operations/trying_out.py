"""Trying out what would change a customer, on copies: its calls go on, and do not wait for it.

The copies are temporary tables that have the names of the tables they are of for as long as the
trial lasts, so that operations and queries of this connection, and of no other one, work on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction

from metering import statements

# What operations on usage change of a customer, but for events and what is written beside them.
COPIED = (
    "accounts_customerversion",
    "metering_balance",
    "metering_windowmember",
    "metering_grant",
    "metering_rollup",
    "metering_rollupmember",
    "metering_rollupday",
    "metering_rollupmonth",
    "metering_rollupreach",  # of the copied days and months: the real one goes on
    "metering_usagebatch",
)


@contextmanager
def trials() -> Iterator[None]:
    """Where customers may be tried out, one after the other: a transaction that is undone."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            for table in COPIED:
                cursor.execute(f"CREATE TEMPORARY TABLE trial_{table} (LIKE {table} INCLUDING ALL)")
        yield
        transaction.set_rollback(True)


@contextmanager
def tried_out(customer_id: int) -> Iterator[None]:
    """Whatever the body changes of this one customer is seen in it, and gone afterwards.

    Within `trials`. Balances, grants, buckets and the version are copies as of now. Events,
    corrections and what was supplied are not: what is written there is undone, and nobody waits for
    it but who would write the same event at the same time.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(statements.load("copy_customer"), {"customer_id": customer_id})
            for table in COPIED:
                cursor.execute(f"ALTER TABLE trial_{table} RENAME TO {table}")
        yield
        transaction.set_rollback(True)
