"""Whether the books are in order: SQL of tests/, which shares nothing with metering/sql."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
from django.db import connection

_TESTS = Path(__file__).parents[2]
_BROKEN = (_TESTS / "books.sql").read_text(encoding="utf-8")
_UNEVEN = (_TESTS / "levels.sql").read_text(encoding="utf-8")


def broken(*customer_ids: int, of: psycopg.Cursor[Any] | None = None) -> list[Any]:
    """Every difference between these customers' books, or all, and what explains them.

    (invariant, customer, of what, is, should be). `of` reads another database than the tests' own.
    """
    return _rows(_BROKEN, customer_ids, of=of)


def uneven(*customer_ids: int, of: psycopg.Cursor[Any] | None = None) -> list[Any]:
    """Every hour, day and month of these customers, or all, that the events do not explain.

    (level, customer, meter, start, dimensions, is, events it counts, should be, events there are).
    """
    return _rows(_UNEVEN, customer_ids, of=of)


def _rows(
    statement: str, customer_ids: tuple[int, ...], *, of: psycopg.Cursor[Any] | None
) -> list[Any]:
    customers = list(customer_ids) or None
    if of is not None:
        return of.execute(statement, {"customers": customers}).fetchall()
    with connection.cursor() as cursor:
        cursor.execute(statement, {"customers": customers})
        return list(cursor.fetchall())
