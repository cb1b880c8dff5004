"""Importing a file of events through the public HTTP API, resumable at any row."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from metering.domain.bodies import BODY_MAX
from metering.domain.shapes.reading import ShapeInvalid
from metering.domain.shapes.table import Layout, translate
from metering.management.lines import CallsFailed, Json, Line
from metering.management.tables import Numbered

BATCH_BYTES: Final = BODY_MAX // 2


class StateInvalid(Exception):
    """What was written down of an earlier run does not fit this one."""


@dataclass(slots=True)
class State:
    """How far an import came. All rows up to `row` are answered, and none is counted twice.

    `about` tells apart what is imported and how; `refused_bytes` is how long the file of refused
    rows was at that row.
    """

    about: str
    total: int
    row: int = 0
    accepted: int = 0
    duplicates: int = 0
    quarantined: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    refused_bytes: int = 0

    @classmethod
    def read(cls, path: Path, *, about: str) -> State | None:
        """What was written down; None where nothing was. Raises StateInvalid."""
        if not path.exists():
            return None
        try:
            found = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise StateInvalid(f"{path} is not the state of an import.") from error
        if found.about != about:
            raise StateInvalid(
                f"{path} is of another file or other options. Remove it to begin anew: events "
                "that were counted are recognised by their ids."
            )
        found.refused = Counter(found.refused)
        return found

    def write(self, path: Path) -> None:
        """Write it down, whole or not at all."""
        new = path.with_name(f"{path.name}.new")
        new.write_text(
            json.dumps({**asdict(self), "refused": dict(self.refused)}), encoding="utf-8"
        )
        new.replace(path)


@dataclass(frozen=True, slots=True)
class Plan:
    """How rows become events, and where they go. `name` makes ids for rows without one."""

    base_url: str
    key: str
    layout: Layout
    source: str
    name: str
    batch: int
    lanes: int


@dataclass(frozen=True, slots=True)
class _Refused:
    """A row that is not counted: its number, the problem's code, and its line in the file."""

    number: int
    code: str
    line: bytes


@dataclass(slots=True)
class _Batch:
    """What is sent in one request: its last row, what cannot be sent, and what can.

    `events` have their rows' numbers, `bodies` are the same as JSON; `size`: the bytes of all.
    """

    last: int = 0
    refused: list[_Refused] = field(default_factory=list)
    events: list[tuple[int, Json]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    size: int = 0

    def is_full(self, plan: Plan) -> bool:
        return len(self.events) + len(self.refused) >= plan.batch or self.size >= BATCH_BYTES

    def body(self) -> bytes:
        return b"[" + b",".join(self.bodies) + b"]"


def run(
    rows: Iterator[Numbered],
    *,
    plan: Plan,
    state: State,
    refused_to: Path,
    keep: Callable[[State], None],
) -> None:
    """Send the rows and count in `state` what became of them, in their order.

    `keep` is called whenever the state has moved. Raises CallsFailed, FileInvalid; whatever it
    raises, the state is of the rows that were answered.
    """
    stopped = threading.Event()
    here = threading.local()
    lines: list[Line] = []

    def post(body: bytes) -> Json:
        if not hasattr(here, "line"):
            here.line = Line(plan.base_url, key=plan.key, stopped=stopped)
            lines.append(here.line)
        status, answer, _ = here.line.post("/events", body)
        if status != 200:
            raise CallsFailed(f"The events were refused: {answer.get('detail', status)}")
        return dict(answer)

    def close_lines() -> None:
        for line in lines:
            line.close()

    under_way: deque[tuple[_Batch, Future[Json]]] = deque()
    with contextlib.ExitStack() as left, refused_to.open("ab") as refusals:
        refusals.truncate(min(refusals.tell(), state.refused_bytes))
        left.callback(close_lines)
        threads = left.enter_context(ThreadPoolExecutor(plan.lanes))
        left.callback(stopped.set)
        for batch in _batches(rows, plan):
            under_way.append((batch, threads.submit(post, batch.body())))
            batch.bodies.clear()
            if len(under_way) > plan.lanes:
                _conclude(*under_way.popleft(), state, refusals, keep)
        while under_way:
            _conclude(*under_way.popleft(), state, refusals, keep)


def _batches(rows: Iterator[Numbered], plan: Plan) -> Iterator[_Batch]:
    """The rows in their order, in requests of BATCH_BYTES, or of one event that is larger."""
    batch = _Batch()
    for number, row in rows:
        try:
            event, encoded = event_of(number, row, plan)
        except ShapeInvalid as error:
            refused = _refused(number, row, error)
            batch.refused.append(refused)
            batch.size += len(refused.line)
        else:
            if batch.events and batch.size + len(encoded) > BATCH_BYTES:
                yield batch
                batch = _Batch()
            batch.events.append((number, event))
            batch.bodies.append(encoded)
            batch.size += len(encoded) + 1  # and a comma
        batch.last = number
        if batch.is_full(plan):
            yield batch
            batch = _Batch()
    if batch.events or batch.refused:
        yield batch


def _refused(number: int, row: Any, error: ShapeInvalid) -> _Refused:
    shown = {} if isinstance(row, ShapeInvalid) else {"values": dict(row)}
    why = {"fareboxcode": error.code, "fareboxdetail": error.detail}
    return _line({**shown, "fareboxrow": number, "fareboxparam": error.param, **why})


def _line(refused: Json) -> _Refused:
    """The row as it is written down: whatever it holds, it stops no other."""
    try:
        line = msgspec.json.encode(refused)
    except (ValueError, TypeError):
        # Python's own writes what is no text as escapes, and what JSON has not as a text.
        line = json.dumps(refused, default=str).encode()
    return _Refused(refused["fareboxrow"], refused["fareboxcode"], line)


def event_of(number: int, row: Any, plan: Plan) -> tuple[Json, bytes]:
    """A row as the CloudEvent that is sent, and as JSON that a request can hold.

    Raises ShapeInvalid, and nothing else whatever the row holds.
    """
    if isinstance(row, ShapeInvalid):
        raise row
    found = translate(row, plan.layout, id_=f"{plan.name}-{number}" if plan.name else "")
    told = found.told
    event: Json = {
        "specversion": "1.0",
        "id": told.id,
        "source": found.source or plan.source,
        "type": told.type,
        "subject": told.subject,
        "data": told.data,
    }
    if told.occurred_at is not None:
        event["time"] = told.occurred_at
    try:
        encoded = msgspec.json.encode(event)
    except (ValueError, TypeError, RecursionError) as error:
        detail = f"the event cannot be written as JSON: {error}"
        raise ShapeInvalid("body_malformed", "", detail) from error
    if len(encoded) + len(b"[]") > BODY_MAX:
        detail = f"the event takes {len(encoded):,} bytes, a request at most {BODY_MAX:,}"
        raise ShapeInvalid("body_too_large", "", detail)
    return event, encoded


def _conclude(
    batch: _Batch,
    answered: Future[Json],
    state: State,
    refusals: Any,
    keep: Callable[[State], None],
) -> None:
    """Count one answer in, when all before it are counted."""
    answer = answered.result()
    refused = list(batch.refused)
    for each in answer["rejected"]:
        number, event = batch.events[each["index"]]
        state.quarantined += bool(each.get("quarantined"))
        # An event still, with attributes of its own: the file can be imported when mended.
        why = {f"farebox{name}": each[name] for name in ("code", "detail", "param") if name in each}
        refused.append(_line({**event, "fareboxrow": number, **why}))
    for found in sorted(refused, key=_number):
        refusals.write(found.line + b"\n")
        state.refused[found.code] += 1
    refusals.flush()
    state.refused_bytes = refusals.tell()
    state.accepted += answer["accepted"]
    state.duplicates += answer["duplicates"]
    state.row = batch.last
    keep(state)


def _number(refused: _Refused) -> int:
    return refused.number


def unsendable(rows: Iterator[Numbered], *, plan: Plan) -> Sequence[tuple[int, ShapeInvalid]]:
    """The rows that cannot be sent, with why; nothing is sent."""
    found = []
    for number, row in rows:
        try:
            event_of(number, row, plan)
        except ShapeInvalid as error:
            found.append((number, error))
    return found
