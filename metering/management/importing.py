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

from metering.domain.shapes.reading import ShapeInvalid
from metering.domain.shapes.table import Layout, translate
from metering.management.lines import CallsFailed, Json, Line
from metering.management.tables import Numbered

BATCH_BYTES: Final = 4 * 1024 * 1024  # half of what the gate takes


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
class _Sent:
    """One request: its last row, what was refused before it was sent, and the answer."""

    last: int
    refused: list[Json]
    events: list[tuple[int, Json]]
    answer: Future[Json]


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

    under_way: deque[_Sent] = deque()
    with contextlib.ExitStack() as left, refused_to.open("ab") as refusals:
        refusals.truncate(min(refusals.tell(), state.refused_bytes))
        left.callback(close_lines)
        threads = left.enter_context(ThreadPoolExecutor(plan.lanes))
        left.callback(stopped.set)
        for last, refused, events in _batches(rows, plan):
            body = b"[" + b",".join(msgspec.json.encode(each) for _, each in events) + b"]"
            under_way.append(_Sent(last, refused, events, threads.submit(post, body)))
            if len(under_way) > plan.lanes:
                _conclude(under_way.popleft(), state, refusals, keep)
        while under_way:
            _conclude(under_way.popleft(), state, refusals, keep)


def _batches(
    rows: Iterator[Numbered], plan: Plan
) -> Iterator[tuple[int, list[Json], list[tuple[int, Json]]]]:
    """(Number of the last row, what cannot be sent, what can: number and event)."""
    refused: list[Json] = []
    events: list[tuple[int, Json]] = []
    size = last = 0
    for number, row in rows:
        last = number
        try:
            event = event_of(number, row, plan)
            size += len(msgspec.json.encode(event))
            events.append((number, event))
        except ShapeInvalid as error:
            shown = {} if isinstance(row, ShapeInvalid) else {"values": dict(row)}
            why = {"fareboxcode": error.code, "fareboxdetail": error.detail}
            refused.append({**shown, "fareboxrow": number, "fareboxparam": error.param, **why})
        if len(events) + len(refused) >= plan.batch or size >= BATCH_BYTES:
            yield last, refused, events
            refused, events, size = [], [], 0
    if events or refused:
        yield last, refused, events


def event_of(number: int, row: Any, plan: Plan) -> Json:
    """A row as the CloudEvent that is sent; raises ShapeInvalid."""
    if isinstance(row, ShapeInvalid):
        raise row
    found = translate(row, plan.layout, id_=f"{plan.name}-{number}" if plan.name else "")
    told = found.told
    event = {
        "specversion": "1.0",
        "id": told.id,
        "source": found.source or plan.source,
        "type": told.type,
        "subject": told.subject,
        "data": told.data,
    }
    return event if told.occurred_at is None else {**event, "time": told.occurred_at}


def _conclude(sent: _Sent, state: State, refusals: Any, keep: Callable[[State], None]) -> None:
    """Count one answer in, when all before it are counted."""
    answer = sent.answer.result()
    refused = list(sent.refused)
    for each in answer["rejected"]:
        number, event = sent.events[each["index"]]
        state.quarantined += bool(each.get("quarantined"))
        # An event still, with attributes of its own: the file can be imported when mended.
        why = {f"farebox{name}": each[name] for name in ("code", "detail", "param") if name in each}
        refused.append({**event, "fareboxrow": number, **why})
    for each in sorted(refused, key=_row_number):
        refusals.write(msgspec.json.encode(each) + b"\n")
        state.refused[each["fareboxcode"]] += 1
    refusals.flush()
    state.refused_bytes = refusals.tell()
    state.accepted += answer["accepted"]
    state.duplicates += answer["duplicates"]
    state.row = sent.last
    keep(state)


def _row_number(refused: Json) -> int:
    return int(refused["fareboxrow"])


def unsendable(rows: Iterator[Numbered], *, plan: Plan) -> Sequence[tuple[int, ShapeInvalid]]:
    """The rows that cannot be sent, with why; nothing is sent."""
    found = []
    for number, row in rows:
        try:
            event_of(number, row, plan)
        except ShapeInvalid as error:
            found.append((number, error))
    return found
