"""Whether the books are in order: tests/books.sql, which shares nothing with metering/sql."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
from django.db import connection

_BROKEN = (Path(__file__).parents[2] / "books.sql").read_text(encoding="utf-8")


def broken(*customer_ids: int, of: psycopg.Cursor[Any] | None = None) -> list[Any]:
    """Every difference between these customers' books, or all, and what explains them.

    (invariant, customer, of what, is, should be). `of` reads another database than the tests' own.
    """
    customers = list(customer_ids) or None
    if of is not None:
        return of.execute(_BROKEN, {"customers": customers}).fetchall()
    with connection.cursor() as cursor:
        cursor.execute(_BROKEN, {"customers": customers})
        return list(cursor.fetchall())
