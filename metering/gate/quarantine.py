"""Where refused events are kept until the operator has mended what they were refused for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from accounts.domain import ids
from accounts.domain.keys import KeyKind, digest_of
from metering.domain.refusals import CHOSEN_ONLY, is_kept
from metering.domain.shapes.reading import Options
from metering.domain.shapes.remains import remains, without_keys
from metering.gate import answers, metrics
from metering.gate.wire import EventBody, Problem, decode
from metering.statements import load

log = logging.getLogger(__name__)
ITEM_BYTES: Final = 65_536  # what one event's properties may have to be kept
_LOCK: Final = 0x6661_7265_0001  # one writer at a time, so that the limit is one
_DETAIL_MAX: Final = 500
_BREATH: Final = 100  # rows made at a stretch: some milliseconds
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Foreign:
    """How a request was to be translated: its shape, what its address said, and its source."""

    shape: str
    options: Options
    source: str


@dataclass(frozen=True, slots=True)
class Refused:
    """An item of a request that was refused, and why: an event, or what could not become one."""

    place: int
    item: EventBody | bytes
    problem: Problem
    foreign: Foreign | None = None


@dataclass(slots=True)
class _Outcome:
    """What is known of the rows of a request: a fault may come after some are written."""

    kept: dict[str, int] = field(default_factory=dict)  # digest -> number
    lost: list[str] = field(default_factory=list)  # why, of each that is not kept


class Quarantine:
    """A bounded table, written over its own connection: what is accepted never waits for it."""

    def __init__(
        self, address: str, *, most_events: int, most_bytes: int, statement_timeout_ms: int
    ) -> None:
        self._address = address
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._timeout_ms = statement_timeout_ms
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._turn = asyncio.Lock()

    async def close(self) -> None:
        """End the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def keep(self, refused: Sequence[Refused], *, gateway_id: int | None) -> dict[int, str]:
        """Keep what the table of reasons says; returns the ids of what is durably kept, by place.

        Never raises for the database's sake: an event that is not kept was refused anyway.
        """
        rows: dict[str, Row] = {}
        digests: dict[int, str] = {}
        for done, each in enumerate(refused, 1):
            row = _row(each)
            if row is not None:
                rows[row["digest"]] = row
                digests[each.place] = row["digest"]
            if done % _BREATH == 0:
                await asyncio.sleep(0)  # other callers are not to wait for a large batch
        if not rows:
            return {}
        outcome = _Outcome()
        try:
            # The time runs while others have the turn, too: an answer waits for this.
            async with asyncio.timeout(2 * self._timeout_ms / 1_000), self._turn:
                await self._whole(list(rows.values()), outcome, gateway_id=gateway_id)
        except (psycopg.Error, OSError, TimeoutError) as error:
            log.warning("refused events were not quarantined: %s", error)
            outcome.lost += ["fault"] * (len(rows) - len(outcome.kept) - len(outcome.lost))
        metrics.QUARANTINED.inc(len(outcome.kept))
        for why in outcome.lost:
            metrics.UNQUARANTINED.labels(why).inc()
        return {
            place: ids.encode("qua", outcome.kept[digest])
            for place, digest in digests.items()
            if digest in outcome.kept
        }

    async def _whole(
        self, rows: Sequence[Row], outcome: _Outcome, *, gateway_id: int | None
    ) -> None:
        """Keep rows; where that ends by an error, end the connection: its state is not known."""
        try:
            await self._split(rows, outcome, gateway_id=gateway_id)
        except BaseException:
            await self.close()
            raise

    async def _split(
        self, rows: Sequence[Row], outcome: _Outcome, *, gateway_id: int | None
    ) -> None:
        """Keep rows, without those that the database refuses even here."""
        try:
            await self._write(rows, outcome, gateway_id=gateway_id)
        except (psycopg.DataError, psycopg.IntegrityError, RecursionError) as error:
            if len(rows) == 1:
                log.warning("a refused event cannot be quarantined: %s", error)
                outcome.lost.append("fault")
                return
        else:
            return
        middle = len(rows) // 2
        await self._split(rows[:middle], outcome, gateway_id=gateway_id)
        await self._split(rows[middle:], outcome, gateway_id=gateway_id)

    async def _write(
        self, rows: Sequence[Row], outcome: _Outcome, *, gateway_id: int | None
    ) -> None:
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
            "most_events": self._most_events,
            "most_bytes": self._most_bytes,
            "for_a_person": sorted(CHOSEN_ONLY),
            "gateway_id": gateway_id,
            "now": datetime.now(UTC),
        }
        async with self._connection.transaction(), self._connection.cursor() as cursor:
            await cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            await cursor.execute(load("quarantine_events"), parameters)
            found = await cursor.fetchall()
        outcome.kept |= {digest.hex: number for digest, number, _ in found if number is not None}
        outcome.lost += [full for _, number, full in found if number is None]


def _row(each: Refused) -> Row | None:
    """What is kept of a refused item; None where nothing is."""
    try:
        return _row_of(each)
    except RecursionError as error:
        log.warning("a refused event cannot be quarantined: %s", error)
        metrics.UNQUARANTINED.labels("fault").inc()
        return None


def _row_of(each: Refused) -> Row | None:
    foreign = each.foreign if isinstance(each.item, bytes) else None
    if not is_kept(each.problem.code, foreign=foreign is not None):
        return None
    row: Row | None = None
    if isinstance(each.item, EventBody):
        row = _of_event(each.item)
    elif foreign is not None:
        row = _of_item(each.item, foreign)
    if row is None:
        return None
    if len(answers.encode(row["properties"])) > ITEM_BYTES:
        metrics.UNQUARANTINED.labels("large").inc()
        return None
    detail = str(without_keys(each.problem.detail))[:_DETAIL_MAX]
    return row | {"place": each.place, "code": each.problem.code, "detail": detail}


def _of_event(event: EventBody) -> Row:
    named = _named(event.subject)
    told = named["key"] or event.subject  # what makes a repeat of a refused event the same one
    return named | {
        "digest": answers.digest_id("quarantine", told, event.source, event.id),
        "source": event.source,
        "external_id": event.id,
        "event_id": answers.digest_id(event.source, event.id),
        "type": event.type,
        "occurred_at": answers.stamp(event.time),
        "properties": event.data or {},
        "shape": "",
        "options": {},
    }


def _of_item(raw: bytes, foreign: Foreign) -> Row | None:
    """What is kept of an item that could not be translated, where it is an object at all."""
    try:
        left = remains(foreign.shape, decode(raw, dict[str, Any]), foreign.options)
    except Problem:
        return None
    options = {"type": foreign.options.type, "customer": foreign.options.customer}
    told = answers.encode((left.item, options)).decode()
    return _named(left.subject) | {
        "digest": answers.digest_id("quarantine", foreign.shape, foreign.source, told),
        "source": foreign.source,
        "external_id": "",
        "event_id": None,
        "type": "",
        "occurred_at": None,
        "properties": left.item,
        "shape": foreign.shape,
        "options": options,
    }


def _named(subject: str) -> Row:
    """How an event named its customer: a key by its digest alone, for its text is a secret."""
    if subject.startswith(KeyKind.CUSTOMER):
        return {"subject": "", "customer": None, "key": digest_of(subject).hex()}
    # Some clients write a header's whole text there, or a gateway's own key.
    subject = str(without_keys(subject)) if len(subject) <= 200 else ""
    return {"subject": subject, "customer": _number(subject), "key": None}


def _number(subject: str) -> int | None:
    """The customer's number where the subject is its id."""
    if not subject.startswith("cus_"):
        return None
    try:
        return ids.decode("cus", subject)
    except ids.IdMalformed:
        return None
