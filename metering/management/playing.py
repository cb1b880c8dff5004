"""Playing recorded calls through the public HTTP API, as a gateway would make them."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from queue import Empty, Full, Queue
from typing import Final

from metering.domain.bodies import BODY_MAX
from metering.domain.traces import RecordedCall
from metering.management.lines import CallsFailed, Json, Line, sentence

HOLD_S: Final = 600
EVENTS_AT_ONCE: Final = 1_000
BATCH_BYTES: Final = BODY_MAX // 2
CALLS_KEPT: Final = 16_384  # in all lanes together
_TOLD_EVERY_S: Final = 0.2
_TICKS: Final = 10_000  # in a second


@dataclass(slots=True)
class Tally:
    """What became of the calls. `took`: how many checks took so many tenths of a millisecond."""

    calls: int = 0
    admitted: int = 0
    duplicates: int = 0
    tokens: int = 0
    denied: Counter[str] = field(default_factory=Counter)
    took: Counter[int] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Count another's in."""
        self.calls += other.calls
        self.admitted += other.admitted
        self.duplicates += other.duplicates
        self.tokens += other.tokens
        self.denied += other.denied
        self.took += other.took

    def time(self, seconds: float) -> None:
        """Note how long a check took."""
        self.took[round(seconds * _TICKS)] += 1

    def percentile(self, part: float) -> float:
        """Seconds within which this part of the checks was answered; 0 without any."""
        left = int(self.took.total() * part)
        for ticks in sorted(self.took):
            left -= self.took[ticks]
            if left < 0:
                return ticks / _TICKS
        return max(self.took, default=0) / _TICKS


@dataclass(frozen=True, slots=True)
class Score:
    """What is played, to whom, and how.

    `digest` names the file: ids are made of it and a call's number, so a file that is played
    twice is recognised. `customers` take turns by the number of the call.
    """

    base_url: str
    key: str
    source: str
    digest: str
    customers: Sequence[str]
    meter: str
    event_type: str
    estimate: int
    real: bool
    lanes: int


def play(
    calls: Iterable[RecordedCall],
    *,
    score: Score,
    first_at: datetime | None,
    backfill: bool,
    progress: Callable[[int], None],
) -> Tally:
    """Play all calls and say what became of them. Each customer's go out in their order.

    They are taken as they are needed: some CALLS_KEPT wait at most. `first_at`: when the first of
    them was. `progress` is told, about five times a second, how many are done. Raises CallsFailed,
    and what `calls` raises.
    """
    lanes = min(score.lanes, len(score.customers))
    room = max(1, min(EVENTS_AT_ONCE, CALLS_KEPT // lanes))
    player = _Player(score, first_at=first_at, at_once=room, progress=progress)
    waiting = [Queue[RecordedCall | None](room) for _ in range(lanes)]
    run = player.report_lane if backfill else player.play_lane
    total = Tally()
    with ThreadPoolExecutor(lanes) as threads:
        left = {threads.submit(player.run, run, each) for each in waiting}
        try:
            for call in calls:
                player.hand(waiting[call.number % len(score.customers) % lanes], call)
                if player.stopped.is_set():
                    break
            for each in waiting:
                player.hand(each, None)
            while left:
                done, left = wait(left, timeout=_TOLD_EVERY_S, return_when=FIRST_COMPLETED)
                for lane in done:
                    total.add(lane.result())
                progress(player.done)
        finally:
            player.stop(waiting)
    return total


class _Player:
    """What the lanes share: the score, the clock of the piece, and the sign to stop."""

    def __init__(
        self,
        score: Score,
        *,
        first_at: datetime | None,
        at_once: int,
        progress: Callable[[int], None],
    ) -> None:
        self._score = score
        self._first_at = first_at
        self._at_once = at_once
        self._progress = progress
        self._began = self._told_at = time.monotonic()
        self.stopped = threading.Event()
        self.done = 0  # for the eye only: lanes may count over each other

    def hand(self, waiting: Queue[RecordedCall | None], call: RecordedCall | None) -> None:
        """Give a lane its next call, or None: there are no more. It may be stopped meanwhile."""
        while not self.stopped.is_set():
            now = time.monotonic()
            if now - self._told_at >= _TOLD_EVERY_S:
                self._told_at = now
                self._progress(self.done)
            with contextlib.suppress(Full):
                waiting.put(call, timeout=_TOLD_EVERY_S)
                return

    def stop(self, waiting: Iterable[Queue[RecordedCall | None]]) -> None:
        """Let all lanes end, with whatever waits in them."""
        self.stopped.set()
        for each in waiting:
            with contextlib.suppress(Empty):
                while True:
                    each.get_nowait()
            each.put(None)

    def run(
        self,
        lane: Callable[[Iterable[RecordedCall]], Tally],
        waiting: Queue[RecordedCall | None],
    ) -> Tally:
        """Play what comes to one lane. Where it fails, all of them stop."""
        try:
            return lane(iter(waiting.get, None))
        except BaseException:
            self.stopped.set()
            raise

    def play_lane(self, calls: Iterable[RecordedCall]) -> Tally:
        """Hold the estimate and settle the actual of each call, one after the other."""
        tally = Tally()
        with contextlib.closing(self._line()) as line:
            for call in calls:
                self._wait_for(call)
                if self.stopped.is_set():
                    break
                self._play(line, call, tally)
                self.done += 1
        return tally

    def report_lane(self, calls: Iterable[RecordedCall]) -> Tally:
        """Report the calls as events of their own time, in batches."""
        tally = Tally()
        with contextlib.closing(self._line()) as line:
            for batch in self._batches(calls):
                if self.stopped.is_set():
                    break
                self._report(line, batch, tally)
                self.done += len(batch)
        return tally

    def _batches(self, calls: Iterable[RecordedCall]) -> Iterator[list[tuple[RecordedCall, bytes]]]:
        """The calls with their events, in requests that the gate takes."""
        batch: list[tuple[RecordedCall, bytes]] = []
        size = 0
        for call in calls:
            event = _bytes(self._event(call))
            if batch and (len(batch) == self._at_once or size + len(event) > BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append((call, event))
            size += len(event)
        if batch:
            yield batch

    def _play(self, line: Line, call: RecordedCall, tally: Tally) -> None:
        score = self._score
        body = {
            "customer": self._customer(call),
            "meter": score.meter,
            "mode": "hold",
            "quantity": call.input + score.estimate,
            "id": self._id(call),
            "source": score.source,
            "ttl": HOLD_S,
        }
        if call.properties:
            body["properties"] = dict(call.properties)
        began = time.perf_counter()
        status, answer, replayed = line.post("/check", _bytes(body))
        tally.time(time.perf_counter() - began)
        tally.calls += 1
        if status != 200:
            tally.denied[str(answer.get("code", status))] += 1
            return
        settle = f"/holds/{answer['hold']['id']}/settle"
        settled, problem, again = line.post(settle, _bytes({"quantity": call.actual}))
        if settled != 200:
            raise CallsFailed(f"Call {call.number} was not settled: {sentence(problem)}")
        tally.admitted += 1
        tally.tokens += call.actual
        tally.duplicates += replayed and again

    def _report(
        self, line: Line, batch: Sequence[tuple[RecordedCall, bytes]], tally: Tally
    ) -> None:
        body = b"[" + b",".join(event for _, event in batch) + b"]"
        began = time.perf_counter()
        status, answer, _ = line.post("/events", body)
        tally.time(time.perf_counter() - began)
        if status != 200:
            raise CallsFailed(f"The events were refused: {sentence(answer)}")
        refused = {each["index"] for each in answer["rejected"]}
        tally.calls += len(batch)
        tally.admitted += answer["accepted"] + answer["duplicates"]
        tally.duplicates += answer["duplicates"]
        tally.denied.update(each["code"] for each in answer["rejected"])
        tally.tokens += sum(
            call.actual for place, (call, _) in enumerate(batch) if place not in refused
        )

    def _event(self, call: RecordedCall) -> Json:
        event: Json = {
            "specversion": "1.0",
            "id": self._id(call),
            "source": self._score.source,
            "type": self._score.event_type,
            "subject": self._customer(call),
            "data": {**call.properties, "quantity": call.actual},
        }
        return event if call.at is None else {**event, "time": call.at.isoformat()}

    def _customer(self, call: RecordedCall) -> str:
        return self._score.customers[call.number % len(self._score.customers)]

    def _id(self, call: RecordedCall) -> str:
        return f"{self._score.digest}-{call.number}"

    def _wait_for(self, call: RecordedCall) -> None:
        if self._score.real and call.at is not None and self._first_at is not None:
            due = self._began + (call.at - self._first_at).total_seconds()
            self.stopped.wait(max(0.0, due - time.monotonic()))

    def _line(self) -> Line:
        return Line(self._score.base_url, key=self._score.key, stopped=self.stopped)


def _bytes(body: object) -> bytes:
    return json.dumps(body).encode()
