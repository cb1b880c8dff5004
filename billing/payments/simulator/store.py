"""State in one SQLite file (or in memory): objects as JSON, settings, answers, deliveries."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from billing.payments.simulator.forms import Json

_TABLES = """
create table if not exists object (
    seq integer primary key autoincrement,
    id text not null unique,
    kind text not null,
    owner text,
    due_at integer,
    body text not null
);
create index if not exists object_kind on object (kind, seq);
create index if not exists object_owner on object (kind, owner, seq);
create index if not exists object_due on object (due_at) where due_at is not null;
create table if not exists setting (name text primary key, value text not null);
create table if not exists answer (
    key text primary key,
    fingerprint text not null,
    stored_at integer not null,
    status integer not null,
    body text not null
);
create table if not exists delivery (
    id integer primary key autoincrement,
    event text not null,
    endpoint text not null,
    attempts integer not null default 0,
    next_at real not null,
    state text not null default 'waiting',
    last_status integer
);
create index if not exists delivery_waiting on delivery (next_at) where state = 'waiting';
create table if not exists request (
    seq integer primary key autoincrement,
    id text not null,
    method text not null,
    path text not null,
    status integer not null,
    key text,
    replayed integer not null
);
"""
# Events would otherwise be found under the customer of the object they carry.
_OWNED_BY_INVOICE = ("line_item", "invoice_payment")


class Store:
    """Every read and write happens inside `unit()`: one lock, one SQLite transaction."""

    def __init__(self, path: str = ":memory:") -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")
        self._db.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def unit(self) -> Iterator[None]:
        """Do all of it or nothing; calls nest into the outermost one."""
        with self._lock:
            if self._depth:
                yield
                return
            self._db.execute("begin immediate")
            self._depth = 1
            try:
                yield
            except BaseException:
                self._db.execute("rollback")
                raise
            else:
                self._db.execute("commit")
            finally:
                self._depth = 0

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Execute one statement and return its rows."""
        with self._lock:
            return self._db.execute(statement, values).fetchall()

    def get(self, identifier: str) -> Json | None:
        """Return the object with this id, private fields included."""
        rows = self.run("select body from object where id = ?", identifier)
        return json.loads(rows[0][0]) if rows else None

    def put(self, obj: Json) -> Json:
        """Insert or replace an object; `_due_at` makes the clock look at it."""
        kind = obj["object"]
        owner = obj.get("invoice" if kind in _OWNED_BY_INVOICE else "customer")
        self.run(
            "insert into object (id, kind, owner, due_at, body) values (?, ?, ?, ?, ?) "
            "on conflict (id) do update set owner = excluded.owner, due_at = excluded.due_at, "
            "body = excluded.body",
            obj["id"],
            kind,
            owner if isinstance(owner, str) else None,
            obj.get("_due_at"),
            json.dumps(obj),
        )
        return obj

    def remove(self, identifier: str) -> None:
        """Forget an object."""
        self.run("delete from object where id = ?", identifier)

    def all(self, kind: str, *, owner: str | None = None) -> list[Json]:
        """Return the objects of a kind, newest first."""
        if owner is None:
            rows = self.run("select body from object where kind = ? order by seq desc", kind)
        else:
            rows = self.run(
                "select body from object where kind = ? and owner = ? order by seq desc",
                kind,
                owner,
            )
        return [json.loads(body) for (body,) in rows]

    def some(self, kind: str, *, owner: str | None, before: int | None, count: int) -> list[Json]:
        """Return up to `count` objects older than sequence `before`, newest first; `_seq` set."""
        rows = self.run(
            "select seq, body from object where kind = ? and (? is null or owner = ?) "
            "and (? is null or seq < ?) order by seq desc limit ?",
            kind,
            owner,
            owner,
            before,
            before,
            count,
        )
        return [{**json.loads(body), "_seq": seq} for seq, body in rows]

    def sequence(self, identifier: str) -> int | None:
        """Return an object's place in the order of creation."""
        rows = self.run("select seq from object where id = ?", identifier)
        return int(rows[0][0]) if rows else None

    def counts(self) -> dict[str, int]:
        """Return how many objects there are of each kind."""
        return dict(self.run("select kind, count(*) from object group by kind order by kind"))

    def next_due(self) -> tuple[int, str] | None:
        """Return (time, id) of what falls due first."""
        rows = self.run(
            "select due_at, id from object where due_at is not null order by due_at, seq limit 1"
        )
        return (int(rows[0][0]), str(rows[0][1])) if rows else None

    def setting(self, name: str) -> str | None:
        """Return a stored setting."""
        rows = self.run("select value from setting where name = ?", name)
        return str(rows[0][0]) if rows else None

    def set_setting(self, name: str, value: str) -> None:
        """Store a setting."""
        self.run("insert or replace into setting values (?, ?)", name, value)

    def clear(self) -> None:
        """Forget everything but the webhook endpoints."""
        with self.unit():
            self.run("delete from object where kind <> 'webhook_endpoint'")
            for table in ("setting", "answer", "delivery", "request"):
                self.run(f"delete from {table}")  # noqa: S608 - the names stand right here
