"""Where refused events are kept until the operator has mended what they were refused for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from accounts.domain import ids
from metering.gate import answers, metrics
from metering.gate.wire import EventBody
from metering.statements import load

log = logging.getLogger(__name__)
# Why an event may be refused today and counted tomorrow: the rest never becomes right.
MENDABLE: Final = frozenset(
    {
        "meter_unknown",
        "customer_unknown",
        "quantity_invalid",
        "price_unknown",
        "time_out_of_range",
        "internal_error",  # the database would not take it
    }
)
_LOCK: Final = 0x6661_7265_0001  # one writer at a time, so that the limit is one


@dataclass(frozen=True, slots=True)
class Refused:
    """An event of a request that was refused, and why. `key` is the digest of a key as subject."""

    place: int
    event: EventBody
    key: bytes | None
    code: str
    detail: str


class Quarantine:
    """A bounded table, written over its own connection: what is accepted never waits for it."""

    def __init__(self, address: str, *, most: int, statement_timeout_ms: int) -> None:
        self._address = address
        self._most = most
        self._timeout_ms = statement_timeout_ms
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._turn = asyncio.Lock()

    async def close(self) -> None:
        """End the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def keep(self, refused: Sequence[Refused], *, gateway_id: int | None) -> set[int]:
        """Keep what may be mended; returns the places of what is durably kept.

        Never raises for the database's sake: an event that is not kept was refused anyway.
        """
        rows = {answers.digest_id(*_same(each)): each for each in refused if _may_be_kept(each)}
        if not rows:
            return set()
        kept: set[str] = set()
        try:
            # The time runs while others have the turn, too: an answer waits for this.
            async with asyncio.timeout(2 * self._timeout_ms / 1_000), self._turn:
                kept |= await self._whole(list(rows.items()), gateway_id=gateway_id)
        except (psycopg.Error, OSError, TimeoutError) as error:
            log.warning("refused events were not quarantined: %s", error)
        metrics.QUARANTINED.inc(len(kept))
        metrics.UNQUARANTINED.inc(len(rows) - len(kept))
        return {each.place for each in refused if answers.digest_id(*_same(each)) in kept}

    async def _whole(
        self, rows: Sequence[tuple[str, Refused]], *, gateway_id: int | None
    ) -> set[str]:
        """Keep rows; where that ends by an error, end the connection: its state is not known."""
        try:
            return await self._split(rows, gateway_id=gateway_id)
        except BaseException:
            await self.close()
            raise

    async def _split(
        self, rows: Sequence[tuple[str, Refused]], *, gateway_id: int | None
    ) -> set[str]:
        """Keep rows, without those that the database refuses even here."""
        try:
            return await self._write([_row(*each) for each in rows], gateway_id=gateway_id)
        except (psycopg.DataError, psycopg.IntegrityError, RecursionError) as error:
            if len(rows) == 1:
                log.warning("a refused event cannot be quarantined: %s", error)
                return set()
        middle = len(rows) // 2
        kept = await self._split(rows[:middle], gateway_id=gateway_id)
        return kept | await self._split(rows[middle:], gateway_id=gateway_id)

    async def _write(self, rows: list[dict[str, Any]], *, gateway_id: int | None) -> set[str]:
        if self._connection is None or self._connection.closed:
            options = f"-c statement_timeout={self._timeout_ms} -c timezone=UTC"
            self._connection = await psycopg.AsyncConnection.connect(
                self._address,
                autocommit=True,
                options=options,
                connect_timeout=2,
                application_name="farebox-quarantine",
            )
        parameters = {
            "events": answers.encode(rows).decode(),
            "most": self._most,
            "gateway_id": gateway_id,
            "now": datetime.now(UTC),
        }
        async with self._connection.transaction(), self._connection.cursor() as cursor:
            await cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            await cursor.execute(load("quarantine_events"), parameters)
            return {digest.hex for (digest,) in await cursor.fetchall()}


def _may_be_kept(each: Refused) -> bool:
    return each.code in MENDABLE and "hold" not in (each.event.data or {})


def _same(each: Refused) -> tuple[str, str, str, str]:
    """What makes a repeat of a refused event the same one."""
    subject = each.event.subject if each.key is None else each.key.hex()
    return ("quarantine", subject, each.event.source, each.event.id)


def _row(digest: str, each: Refused) -> dict[str, Any]:
    event = each.event
    return {
        "digest": digest,
        "place": each.place,
        "subject": event.subject if each.key is None else "",
        "customer": _number(event.subject) if each.key is None else None,
        "key": None if each.key is None else each.key.hex(),
        "source": event.source,
        "external_id": event.id,
        "type": event.type,
        "occurred_at": answers.stamp(event.time),
        "properties": event.data or {},
        "code": each.code,
        "detail": each.detail[:500],
    }


def _number(subject: str) -> int | None:
    """The customer's number where the subject is its id."""
    if not subject.startswith("cus_"):
        return None
    try:
        return ids.decode("cus", subject)
    except ids.IdMalformed:
        return None
