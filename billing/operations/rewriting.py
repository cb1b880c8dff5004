"""Writing many rows of one table with one statement, which are sent as JSON.

That costs a fraction of what as many parameters cost: most of the time of closing went there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from django.db import connection
from django.db.models import Field, Model


def insert(
    model: type[Model], rows: Sequence[Mapping[str, Any]], *, but_known: bool = False
) -> set[int]:
    """Insert rows, all of which have a value for the same attributes (`meter_id`, not `meter`);
    returns their ids. Other columns get the database's default, not the model's.

    `but_known`: without those that a unique constraint refuses.
    """
    if not rows:
        return set()
    every = {field.attname: field for field in _fields(model)}
    fields = [every[name] for name in rows[0]]
    names = ", ".join(_quoted(field) for field in fields)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {_table(model)} ({names})"  # noqa: S608  (the model's own names)
            f" SELECT {names} FROM {_given(fields)}"
            f" {'ON CONFLICT DO NOTHING' if but_known else ''} RETURNING id",
            {"rows": msgspec.json.encode(rows).decode()},
        )
        return {row[0] for row in cursor.fetchall()}


def rewrite(rows: Sequence[Model], *, fields: Iterable[str] | None = None) -> None:
    """Save these fields of rows that exist, as `save` does each by itself; None: all fields.

    The rows are of one model, whose key is `id`.
    """
    if not rows:
        return
    model = type(rows[0])
    wanted = None if fields is None else {"id", *fields}
    given = [each for each in _fields(model) if wanted is None or each.name in wanted]
    sets = ", ".join(
        f"{_quoted(each)} = given.{_quoted(each)}" for each in given if not each.primary_key
    )
    values = [{each.attname: getattr(row, each.attname) for each in given} for row in rows]
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {_table(model)} AS kept SET {sets}"  # noqa: S608  (the model's own names)
            f" FROM {_given(given)} WHERE kept.id = given.id",
            {"rows": msgspec.json.encode(values).decode()},
        )


def _fields(model: type[Model]) -> list[Field[Any, Any]]:
    return list(model._meta.concrete_fields)  # noqa: SLF001  (public in all but its name)


def _table(model: type[Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)  # noqa: SLF001  (as above)


def _quoted(field: Field[Any, Any]) -> str:
    return connection.ops.quote_name(str(field.column))


def _given(fields: Iterable[Field[Any, Any]]) -> str:
    """The rows as a table. Attributes are named as their columns are."""
    columns = ", ".join(f"{_quoted(each)} {each.rel_db_type(connection)}" for each in fields)
    return f"json_to_recordset(%(rows)s::json) AS given ({columns})"
