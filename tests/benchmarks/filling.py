"""Rows by the million, made by the database itself from one that Farebox wrote.

Every column keeps the value of the pattern row except those that are given, so a table is filled
with what its writers write, whatever columns it has.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from accounts.domain import keys
from tests.benchmarks import measuring
from tests.benchmarks.measuring import say

_AT_ONCE = 1_000_000
_FIRST_CUSTOMER = 1 << 50
_CUSTOMER_STEP = 1 << 22  # ids of customers sort by age, as those that Farebox makes
CUSTOMER = f"({_FIRST_CUSTOMER} + n * {_CUSTOMER_STEP})"  # the id of the customer n
# Per customer, in an order that foreign keys allow; what a row has for itself.
_OF_A_CUSTOMER: dict[str, dict[str, str]] = {
    "accounts_customer": {"id": CUSTOMER, "external_id": "'bench-' || n"},
    "accounts_customerversion": {"customer_id": CUSTOMER},
    "accounts_apikey": {
        "id": CUSTOMER,
        "customer_id": CUSTOMER,
        "digest": "sha256(n::text::bytea)",
    },
    "metering_standing": {"customer_id": CUSTOMER},
    "metering_entitlement": {"customer_id": CUSTOMER},
    "metering_balance": {"customer_id": CUSTOMER},
}


@dataclass(frozen=True, slots=True)
class Span:
    """Numbers from `first` up to but not including `end`."""

    first: int
    end: int


def customer_id(number: int) -> int:
    """The id of the customer with that number."""
    return _FIRST_CUSTOMER + number * _CUSTOMER_STEP


def number_of(customer_id: int) -> int:
    """The number of the customer with that id."""
    return (customer_id - _FIRST_CUSTOMER) // _CUSTOMER_STEP


def customer_by_chance(customers: int) -> str:
    """An SQL expression: the id of one of so many customers."""
    return f"({_FIRST_CUSTOMER} + floor(random() * {customers})::bigint * {_CUSTOMER_STEP})"


def seed_one(dsn: str, env: Mapping[str, str]) -> tuple[dict[str, Any], int]:
    """Make the tables and one customer; what `seeding` tells of it, and the customer's id."""
    measuring.migrate(env)
    seeded: dict[str, Any] = measuring.run_module("seeding", 1, 0, env=env)
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT id FROM accounts_customer").fetchone()
    assert row is not None
    return seeded, row[0]


def multiply(
    connection: psycopg.Connection, name: str, given: Mapping[str, str], *, span: Span, pattern: str
) -> None:
    """Add a row for each number n of the span: as the one that the condition `pattern` finds.

    `given`: an SQL expression over n per column.
    """
    table = sql.Identifier(name)
    columns = _columns(connection, name)
    values = [
        sql.SQL(given[column])
        if column in given
        else sql.SQL("p.{}").format(sql.Identifier(column))
        for column in columns
    ]
    statement = sql.SQL(
        "INSERT INTO {table} ({columns}) SELECT {values}"
        " FROM generate_series(%s::bigint, %s::bigint) AS n,"
        " (SELECT * FROM {table} WHERE {pattern} LIMIT 1) AS p"
    ).format(
        table=table,
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        values=sql.SQL(", ").join(values),
        pattern=sql.SQL(pattern),
    )
    for first in range(span.first, span.end, _AT_ONCE):
        last = min(first + _AT_ONCE, span.end) - 1
        connection.execute(statement, (first, last))
        connection.commit()
        if span.end - span.first > _AT_ONCE:
            say(f"  {name}: {last + 1:,}")


def add_customers(connection: psycopg.Connection, *, span: Span, pattern_id: int) -> None:
    """Add customers like the one with that id, each with a key that nobody knows."""
    for name, given in _OF_A_CUSTOMER.items():
        owner = "id" if name == "accounts_customer" else "customer_id"
        multiply(connection, name, given, span=span, pattern=f"{owner} = {pattern_id}")


def give_keys(connection: psycopg.Connection, numbers: Sequence[int]) -> list[str]:
    """Give these customers keys that we know, in place of those that nobody knows."""
    made = [keys.new_key(keys.KeyKind.CUSTOMER, entropy=secrets.token_bytes(32)) for _ in numbers]
    connection.execute(
        "UPDATE accounts_apikey AS k SET digest = g.digest, prefix = g.prefix"
        " FROM unnest(%s::bigint[], %s::bytea[], %s::text[]) AS g (id, digest, prefix)"
        " WHERE k.id = g.id",
        (
            [customer_id(number) for number in numbers],
            [key.digest for key in made],
            [key.prefix for key in made],
        ),
    )
    connection.commit()
    return [key.text for key in made]


def add_events(connection: psycopg.Connection, *, span: Span, customers: int) -> None:
    """Add events like one that the gate wrote, spread over the customers, of this month.

    They are history that nobody asks for: balances and rollups do not have them.
    """
    given = {
        "customer_id": customer_by_chance(customers),
        "id": "gen_random_uuid()",
        "external_uuid": "NULL::uuid",
        "external_id": "'bench-event-' || n",
        "occurred_at": "p.occurred_at - random() * interval '20 days'",
    }
    pattern = "answer IS NOT NULL"
    row = connection.execute(f"SELECT 1 FROM metering_usageevent WHERE {pattern} LIMIT 1")
    multiply(
        connection,
        "metering_usageevent",
        given,
        span=span,
        pattern=pattern if row.fetchone() else "true",
    )


def settle_down(dsn: str) -> None:
    """Let the database do now what it would do in the middle of a measurement."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def _columns(connection: psycopg.Connection, name: str) -> list[str]:
    rows = connection.execute(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_schema = current_schema() AND table_name = %s"
        " AND is_identity = 'NO' AND is_generated = 'NEVER'"
        " ORDER BY ordinal_position",
        (name,),
    )
    return [column for (column,) in rows]
