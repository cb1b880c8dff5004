"""A gate's connection to PostgreSQL: reads copies, looks up ids, writes one batch.

One for each flight that a process may have in the air; every statement is prepared and its plan
pinned. A lost connection is an Unavailable: the engine keeps its calls and tries again, which is
safe because every write is idempotent by event or hold id.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict

from metering.domain.account import Account
from metering.domain.prices import PriceBook, books_of
from metering.domain.retention import horizon
from metering.gate import metrics
from metering.gate.catalogue import Catalogue, build_catalogue, versions_of_prices
from metering.gate.clocks import ClockOff
from metering.gate.copied import Found, account_of, found_of, instant_of
from metering.gate.plans import Plans
from metering.gate.rows import Member, Origin, encode, ids_of
from metering.statements import numbered

_ORIGINS_MAX = 100_000  # known at once: 9 MB a connection
_decode = msgspec.json.decode
_AWAY = (
    psycopg.OperationalError,
    OSError,
    psycopg.errors.ReadOnlySqlTransaction,  # a standby, perhaps no more soon
    # The schema is not there yet, or changes under us: what was prepared goes with the connection.
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.FeatureNotSupported,  # a prepared statement's result has another type now
)


class Unavailable(Exception):
    """The database cannot be reached or did not answer in time."""


class BatchRefused(Exception):
    """The database refused the batch's content; nothing of it was written."""


class Store:
    """Statements of the gate over one connection that is made again when it breaks."""

    def __init__(self, dsn: str, *, statement_timeout_ms: int) -> None:
        self._dsn = dsn
        self._timeout_ms = statement_timeout_ms
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._connecting = asyncio.Lock()
        self._plans = Plans()
        self._origins: set[int] = set()  # seen to be there, over this connection
        self._books: dict[int, PriceBook] = {}  # prices of active versions, which never change

    def twin(self) -> Store:
        """Another connection to the same database."""
        return Store(self._dsn, statement_timeout_ms=self._timeout_ms)

    async def close(self) -> None:
        """Drop the connection; the next statement makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await connection.close()

    async def read_catalogue(self) -> Catalogue:
        """Read meters, offers and gateways as of one snapshot."""
        async with self._cursor() as cursor:
            await _execute(cursor, "read_catalogue", {})
            row = await cursor.fetchone()
            assert row is not None
            wanted, books = versions_of_prices(row), self._books
            missing = sorted(wanted - books.keys())
            if missing:
                await _execute(cursor, "read_prices", {"versions": missing})
                books = books | books_of(await cursor.fetchall())
        # Another read may have come through meanwhile, of a catalogue with other versions.
        self._books = {version: books[version] for version in wanted}
        return build_catalogue(row, self._books)

    async def read_accounts(
        self,
        *,
        ids: Iterable[int] = (),
        digests: Iterable[bytes] = (),
        externals: Iterable[str] = (),
        since: datetime,
    ) -> list[Account]:
        """Read whole copies of the customers that are named; unknown ones are absent."""
        parameters = {
            "ids": list(ids),
            "digests": list(digests),
            "externals": list(externals),
            "since": since,
        }
        async with self._cursor() as cursor:
            await _execute(cursor, "read_accounts", parameters)
            rows = await cursor.fetchall()
        return [account_of(row, since) for row in rows]

    async def read_ids(
        self, ids: Iterable[tuple[int, str]], *, today: date
    ) -> dict[tuple[int, str], Found]:
        """Look up which of these ids of customers were used, and for what."""
        parameters = {"ids": ids_of(ids), "horizon": horizon(today)}
        async with self._cursor() as cursor:
            await _execute(cursor, "read_ids", parameters)
            rows = await cursor.fetchall()
        return {(row[0], row[1].hex): found_of(row) for row in rows}

    async def read_members(
        self, members: Sequence[Member]
    ) -> list[tuple[int, tuple[int, str, datetime], str]]:
        """Which of these were seen: (customer, (meter, window, its start), member)."""
        async with self._cursor() as cursor:
            await _execute(cursor, "read_members", {"members": encode(members).decode()})
            rows = await cursor.fetchall()
        return [(row[0], (row[1], row[2], instant_of(row[3])), row[4]) for row in rows]

    async def read_expired_holds(
        self, customers: Sequence[int], *, now: datetime, most: int
    ) -> list[tuple[int, str, dict[str, Any]]]:
        """List open holds whose time is over: (customer, id, allocation)."""
        parameters = {"customers": list(customers), "now": now, "most": most}
        async with self._cursor() as cursor:
            await _execute(cursor, "read_expired_holds", parameters)
            return [(row[0], row[1].hex, _decode(row[2])) for row in await cursor.fetchall()]

    async def write(
        self, parameters: dict[str, Any], parts: frozenset[str], origins: Iterable[Origin]
    ) -> tuple[int, set[int]]:
        """Write a batch; returns the catalogue's version and the customers that were answered.

        Raises ClockOff where the batch's `now` is too far from the database's.
        """
        async with self._cursor() as cursor:
            new = [each for each in origins if each.known_as not in self._origins]
            if new:
                parameters = parameters | {"origins": encode(new).decode()}
                parts |= {"origins"}
            if self._plans.are_due(time.monotonic(), month=parameters["month"]):
                await cursor.execute("DISCARD PLANS")
            await _execute(cursor, "write_batch", parameters, parts)
            row = await cursor.fetchone()
        assert row is not None
        if row[0] is None:
            raise ClockOff(row[2])
        answered = set(row[1])
        if len(self._origins) > _ORIGINS_MAX:
            self._origins.clear()
        self._origins.update(each.known_as for each in new if each.c in answered)
        return row[0], answered

    @contextlib.asynccontextmanager
    async def locked(self, customer_id: int) -> AsyncIterator[None]:
        """Hold the customer's version row while the body reads, decides and writes."""
        connection = await self._connect()
        try:
            with self._limit(connection, statements=3):  # BEGIN and COMMIT can hang as well
                async with connection.transaction():
                    with metrics.LOCK_WAIT.time():
                        await connection.execute(
                            "SELECT version FROM accounts_customerversion"
                            " WHERE customer_id = $1 FOR UPDATE",
                            (customer_id,),
                        )
                    yield
        except (psycopg.OperationalError, OSError) as error:
            await self.close()
            raise Unavailable(str(error)) from error
        except BaseException:
            self._origins.clear()  # what the transaction wrote is not there
            raise

    @contextlib.asynccontextmanager
    async def _cursor(self) -> AsyncIterator[psycopg.AsyncCursor[Any]]:
        connection = await self._connect()
        try:
            with self._limit(connection):
                async with connection.cursor() as cursor:
                    yield cursor
        except (
            psycopg.errors.DeadlockDetected,
            psycopg.errors.SerializationFailure,
            # Somebody's `locked` has just failed, and this came over its connection.
            psycopg.errors.InFailedSqlTransaction,
        ) as error:
            raise Unavailable(str(error)) from error
        except _AWAY as error:
            await self.close()
            raise Unavailable(str(error)) from error
        except psycopg.Error as error:
            if connection.closed:
                await self.close()
                raise Unavailable(str(error)) from error
            raise BatchRefused(str(error)) from error

    @contextlib.contextmanager
    def _limit(
        self, connection: psycopg.AsyncConnection[Any], *, statements: int = 1
    ) -> Iterator[None]:
        """Cut the connection where the server is silent past the limit that it keeps itself.

        To cancel would be to ask that same server, and to wait for it.
        """
        patience_s = statements * self._timeout_ms / 1_000 + 0.25
        timer = asyncio.get_running_loop().call_later(patience_s, _cut, connection)
        try:
            yield
        finally:
            timer.cancel()

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        async with self._connecting:
            if self._connection is None or self._connection.closed:
                self._connection, self._plans = await self._new_connection(), Plans()
                self._origins.clear()  # another server may not have what the last one had
            return self._connection

    async def _new_connection(self) -> psycopg.AsyncConnection[Any]:
        options = (
            f"-c statement_timeout={self._timeout_ms} -c lock_timeout={self._timeout_ms}"
            " -c plan_cache_mode=force_generic_plan -c enable_seqscan=off"
            " -c enable_mergejoin=off -c jit=off -c timezone=UTC"
            " -c idle_in_transaction_session_timeout=10000"
        )
        # What the address asks for comes last, so it counts: Citus plans no pinned statement.
        options += f" {conninfo_to_dict(self._dsn).get('options') or ''}"
        try:
            return await psycopg.AsyncConnection.connect(
                self._dsn,
                autocommit=True,
                options=options,
                connect_timeout=2,
                prepare_threshold=0,
                cursor_factory=psycopg.AsyncRawCursor,
                application_name="farebox-gate",
            )
        except (psycopg.Error, OSError) as error:
            raise Unavailable(str(error)) from error


async def _execute(
    cursor: psycopg.AsyncCursor[Any],
    name: str,
    parameters: Mapping[str, Any],
    parts: frozenset[str] | None = None,
) -> None:
    text, names = numbered(name, parts)
    await cursor.execute(text, [parameters[each] for each in names], prepare=True)


def _cut(connection: psycopg.AsyncConnection[Any]) -> None:
    """End a connection at our side: whoever waits for the server is told that it is gone."""
    with (
        contextlib.suppress(psycopg.Error, OSError),
        socket.socket(fileno=os.dup(connection.fileno())) as cut,
    ):
        cut.shutdown(socket.SHUT_RDWR)
