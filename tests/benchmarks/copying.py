"""What PostgreSQL itself takes: rows of usage events by COPY, by the ORM, one at a time.

The rows are copies of one that the gate wrote, with ids of their own, in the same table with its
indexes; nothing else is written.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

import django

django.setup()

import psycopg  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402
from psycopg import sql  # noqa: E402
from psycopg.types.string import TextLoader  # noqa: E402

T = TypeVar("T")
_TABLE = sql.Identifier("metering_usageevent")


class Packed(models.Model):
    """Usage events as they are stored (metering.models.UsageEvent is a view of them)."""

    pk = models.CompositePrimaryKey("customer_id", "id", "received_month")
    customer_id = models.BigIntegerField()
    id = models.UUIDField()
    occurred_at = models.DateTimeField()
    received_at = models.DateTimeField()
    fingerprint = models.BigIntegerField()
    origin_id = models.BigIntegerField()
    received_month = models.DateField()
    from_hold = models.BooleanField()
    late = models.BooleanField()
    over_hold = models.BooleanField()
    external_uuid = models.UUIDField(null=True)
    external_id = models.TextField(null=True)  # noqa: DJ001
    source = models.TextField()
    usage = models.JSONField()
    properties = models.JSONField(null=True)
    paid_by = models.JSONField(null=True)
    answer = models.TextField(null=True)  # noqa: DJ001
    objects: ClassVar[models.Manager[Packed]] = models.Manager()

    class Meta:
        app_label = "metering"
        managed = False
        db_table = "metering_usageevent"


def measure(seconds: float) -> dict[str, float]:
    """Rows a second, by how they were written."""
    connection.ensure_connection()
    raw: psycopg.Connection[Any] = connection.connection
    raw.adapters.register_loader("json", TextLoader)  # Django reads it itself
    pattern = Packed.objects.all()[:1].get()
    names = [field.attname for field in Packed._meta.concrete_fields]
    names = [name for name in names if name != "pk"]
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    numbers = itertools.count()

    def fresh() -> Packed:
        values = {name: getattr(pattern, name) for name in names}
        own = {"id": uuid4(), "external_uuid": None, "external_id": f"plain-{next(numbers)}"}
        return Packed(**values | own)

    with raw.cursor() as cursor:
        text = sql.SQL("COPY (SELECT {} FROM {} LIMIT 1) TO STDOUT").format(columns, _TABLE)
        with cursor.copy(text) as copied:
            line = b"".join(bytes(part) for part in copied).rstrip(b"\n").split(b"\t")
    places = [names.index(name) for name in ("id", "external_uuid", "external_id")]

    def lines(count: int) -> Iterator[bytes]:
        for _ in range(count):
            row = list(line)
            own = str(uuid4()).encode(), rb"\N", b"plain-%d" % next(numbers)
            for place, value in zip(places, own, strict=True):
                row[place] = value
            yield b"\t".join(row) + b"\n"

    def copy(block: bytes) -> None:
        into = sql.SQL("COPY {} ({}) FROM STDIN").format(_TABLE, columns)
        with transaction.atomic(), raw.cursor() as cursor, cursor.copy(into) as copied:
            copied.write(block)

    def bulk(events: list[Packed]) -> None:
        Packed.objects.bulk_create(events, ignore_conflicts=True)

    return {
        "copy": _rate(lambda: b"".join(lines(20_000)), copy, 20_000, seconds),
        "bulk": _rate(lambda: [fresh() for _ in range(1_000)], bulk, 1_000, seconds),
        "single": _rate(fresh, lambda event: event.save(force_insert=True), 1, seconds),
    }


def _rate(make: Callable[[], T], write: Callable[[T], None], rows: int, seconds: float) -> float:
    """Rows a second; what is written is made beforehand and not measured."""
    spent, written = 0.0, 0
    while spent < seconds:
        made = make()
        begun = time.perf_counter()
        write(made)
        spent += time.perf_counter() - begun
        written += rows
    return written / spent


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(float(sys.argv[1]))))
