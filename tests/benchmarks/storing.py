"""Clusters with the same customers and different numbers of events, as the gate writes them.

    nice python -m tests.benchmarks.storing /data/history 1000000 1000000 100000000

fills a folder with a cluster of a million customers for each number of events that is named, which
`--history-home /data/history` measures as often as one likes. What it takes is given back by
`python -m config.embedded.postgres --remove --home /data/history/events-100000000`.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import urllib3
from psycopg import sql

from accounts.domain import ids
from config.embedded.postgres import Cluster
from metering.domain.counting import event_key
from tests.benchmarks import filling, measuring
from tests.benchmarks.bodies import EVENT_TYPE
from tests.benchmarks.filling import Span
from tests.benchmarks.measuring import EVENTS

SOURCE = "edge-1"
DATA = {"model": "gpt-4o", "tokens": 1200}
INDEX_FULL = 70  # per cent: what entries that come by chance leave a page at, in the long run
_EVENT_BYTES, _CUSTOMER_BYTES, _CLUSTER_BYTES = 300, 2_500, 3_000_000_000
_LEFT_FREE_BYTES = 15_000_000_000
_KNOWN = 100  # events whose ids are asked for again
_SPAN = "28 days"  # of receipt: never more than two months, both of which are looked in for ids
_PARTS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass"


@dataclass(frozen=True, slots=True)
class Stored:
    """A cluster that is filled. `known`: (customer's number, id) of events to ask for again."""

    customers: int
    events: int
    gateway_key: str
    known: list[tuple[int, str]]


class DiskTooSmall(Exception):
    """The disk does not hold that many events; the sentence says how much is missing."""


@contextmanager
def cluster(home: Path) -> Iterator[str]:
    """The cluster in that folder, running; yields its DSN. It is kept."""
    found = Cluster(home, durable=True)
    found.start()
    try:
        yield found.dsn
    finally:
        found.stop()


def folder(home: Path, events: int) -> Path:
    """Where the cluster with so many events is."""
    return home / f"events-{events}"


def stored(home: Path, customers: int, events: int) -> Stored:
    """The cluster with so many, which is filled where it is not there yet."""
    told = folder(home, events) / "stored.json"
    if told.exists():
        found = Stored(**json.loads(told.read_text()))
        if found.customers == customers:
            return found
    remove(folder(home, events))
    measuring.say(f"-- filling: {customers:,} customers, {events:,} events")
    with cluster(folder(home, events)) as dsn:
        found = _fill(dsn, customers, events)
    told.write_text(json.dumps(asdict(found)))
    return found


def event_of(external_id: str, *, subject: str) -> dict[str, Any]:
    """An event as it is reported."""
    said = {"specversion": "1.0", "type": EVENT_TYPE, "source": SOURCE, "id": external_id}
    return {**said, "subject": subject, "data": DATA}


def remove(home: Path) -> None:
    """Delete a cluster with all its data, if it is there."""
    if home.exists():
        Cluster(home, durable=True).destroy()
        shutil.rmtree(home)


def require_disk(home: Path, customers: int, events: Sequence[int]) -> None:
    """Raise DiskTooSmall where what is not there yet would not leave enough free."""
    missing = [each for each in events if not (folder(home, each) / "stored.json").exists()]
    needed = sum(
        each * _EVENT_BYTES + customers * _CUSTOMER_BYTES + _CLUSTER_BYTES for each in missing
    )
    free = shutil.disk_usage(home).free
    if missing and free < needed + _LEFT_FREE_BYTES:
        raise DiskTooSmall(
            f"{home} has {free / 1e9:.0f} GB free; {max(events):,} events need"
            f" {needed / 1e9:.0f} GB, and {_LEFT_FREE_BYTES / 1e9:.0f} GB stay free:"
            " store fewer (--history-events), or keep them elsewhere (--history-home)."
        )


def _fill(dsn: str, customers: int, events: int) -> Stored:
    env = measuring.environment(dsn)
    seeded, pattern_id = filling.seed_one(dsn, env)
    _report(env, seeded["gateway_key"], pattern_id)
    with psycopg.connect(dsn) as connection:
        filling.add_customers(connection, span=Span(0, customers), pattern_id=pattern_id)
        given = {"customer_id": filling.CUSTOMER}
        filling.multiply(
            connection, "metering_eventorigin", given, span=Span(0, customers), pattern="true"
        )
        with _without_indexes(connection):
            _add_events(connection, customers, events)
        known = _known(connection, customers)
    filling.settle_down(dsn)
    return Stored(customers, events, seeded["gateway_key"], known)


def _report(env: Mapping[str, str], gateway_key: str, customer_id: int) -> None:
    """Let the gate write the event that all others are like."""
    event = event_of(str(uuid4()), subject=ids.encode("cus", customer_id))
    with measuring.server(env) as (port, _), urllib3.PoolManager() as http:
        headers = {"Authorization": f"Bearer {gateway_key}"}
        url = f"http://127.0.0.1:{port}{EVENTS}"
        answer = http.request("POST", url, json=event, headers=headers)
    assert answer.status == 200, answer.data


def _add_events(connection: psycopg.Connection, customers: int, events: int) -> None:
    """Events like the one that is there, each with a customer by chance and an id of its own."""
    now = f"timestamptz '{datetime.now(UTC).isoformat()}'"
    received_at = f"({now} - n * (interval '{_SPAN}' / {events}))"
    given = {
        "customer_id": filling.customer_by_chance(customers),
        "id": "md5('id' || n)::uuid",
        "external_uuid": "md5('external' || n)::uuid",
        "received_at": received_at,
        "occurred_at": f"{received_at} - random() * interval '1 second'",
        "received_month": f"date_trunc('month', {received_at})::date",
    }
    filling.multiply(connection, "metering_usageevent", given, span=Span(1, events), pattern="true")


@contextmanager
def _without_indexes(connection: psycopg.Connection) -> Iterator[None]:
    """Take the indexes of events away and make them anew afterwards, which is many times faster.

    Their pages are then as full as entries that come one by one, by chance, leave them.
    """
    keys, indexes = [], []
    for (part,) in connection.execute(_PARTS, ("metering_usageevent",)).fetchall():
        for name, definition in connection.execute(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conrelid = %s::regclass AND contype = 'p'",
            (part,),
        ).fetchall():
            keys.append((sql.Identifier(part), sql.Identifier(name), sql.SQL(definition)))
    for name, definition in connection.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = 'metering_usageevent'::regclass"
    ).fetchall():
        indexes.append((sql.Identifier(name), sql.SQL(definition.replace(" ON ONLY ", " ON "))))
    for part, name, _ in keys:
        connection.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(part, name))
        connection.execute(sql.SQL("ALTER TABLE {} SET (autovacuum_enabled = false)").format(part))
    for name, _ in indexes:
        connection.execute(sql.SQL("DROP INDEX {}").format(name))
    connection.commit()
    yield
    full = sql.SQL(f"WITH (fillfactor = {INDEX_FULL})")
    connection.execute("SET maintenance_work_mem = '1GB'")
    for part, name, definition in keys:
        measuring.say(f"  index {name.as_string()}")
        add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} {}")
        connection.execute(add.format(part, name, definition, full))
        connection.execute(sql.SQL("ALTER TABLE {} RESET (autovacuum_enabled)").format(part))
        connection.commit()
    for name, definition in indexes:
        measuring.say(f"  index {name.as_string()}")
        connection.execute(sql.SQL("{} {}").format(definition, full))
        connection.commit()


def _known(connection: psycopg.Connection, customers: int) -> list[tuple[int, str]]:
    """Give some events the key that the gate finds them by, and tell which."""
    some = random.sample(range(customers), min(10 * _KNOWN, customers))
    rows = connection.execute(
        "SELECT DISTINCT ON (customer_id) customer_id, id, external_uuid::text"
        "  FROM metering_usageevent WHERE customer_id = ANY(%s) LIMIT %s",
        (list(map(filling.customer_id, some)), _KNOWN),
    ).fetchall()
    for customer_id, old, external_id in rows:
        connection.execute(
            "UPDATE metering_usageevent SET id = %s WHERE customer_id = %s AND id = %s",
            (event_key(SOURCE, external_id), customer_id, old),
        )
    connection.commit()
    return [(filling.number_of(customer_id), external_id) for customer_id, _, external_id in rows]


def main() -> int:
    """Fill the folder."""
    home, customers, *events = sys.argv[1:]
    Path(home).mkdir(parents=True, exist_ok=True)
    Path(home).chmod(0o711)
    try:
        require_disk(Path(home), int(customers), list(map(int, events)))
    except DiskTooSmall as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for each in events:
        stored(Path(home), int(customers), int(each))
    return 0


if __name__ == "__main__":
    sys.exit(main())
