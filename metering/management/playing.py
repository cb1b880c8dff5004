"""Playing recorded calls through the public HTTP API, as a gateway would make them."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final

from metering.domain.traces import RecordedCall
from metering.management.lines import CallsFailed, Json, Line, sentence

HOLD_S: Final = 600
EVENTS_AT_ONCE: Final = 1_000


@dataclass(slots=True)
class Tally:
    """What became of the calls. `seconds` of each check, for the percentiles."""

    calls: int = 0
    admitted: int = 0
    duplicates: int = 0
    tokens: int = 0
    denied: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count another's in."""
        self.calls += other.calls
        self.admitted += other.admitted
        self.duplicates += other.duplicates
        self.tokens += other.tokens
        self.denied += other.denied
        self.seconds += other.seconds

    def percentile(self, part: float) -> float:
        """Seconds within which this part of the checks was answered; 0 without any."""
        ranked = sorted(self.seconds)
        return ranked[min(int(len(ranked) * part), len(ranked) - 1)] if ranked else 0.0


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
    calls: Sequence[RecordedCall], *, score: Score, backfill: bool, progress: Callable[[int], None]
) -> Tally:
    """Play all calls and say what became of them. Each customer's go out in order.

    `progress` is told, about five times a second, how many are done. Raises CallsFailed.
    """
    lanes: list[list[RecordedCall]] = [[] for _ in range(min(score.lanes, len(score.customers)))]
    for call in calls:
        lanes[call.number % len(score.customers) % len(lanes)].append(call)
    player = _Player(score, calls)
    run = player.report_lane if backfill else player.play_lane
    total = Tally()
    with ThreadPoolExecutor(len(lanes)) as threads:
        left = {threads.submit(run, lane) for lane in lanes}
        try:
            while left:
                done, left = wait(left, timeout=0.2, return_when=FIRST_COMPLETED)
                for each in done:
                    total.add(each.result())
                progress(player.done)
        finally:
            player.stopped.set()
    return total


class _Player:
    """What the lanes share: the score, the clock of the piece, and the sign to stop."""

    def __init__(self, score: Score, calls: Sequence[RecordedCall]) -> None:
        self._score = score
        self._first_at = next((call.at for call in calls if call.at is not None), None)
        self._began = time.monotonic()
        self.stopped = threading.Event()
        self.done = 0  # for the eye only: lanes may count over each other

    def play_lane(self, calls: Sequence[RecordedCall]) -> Tally:
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

    def report_lane(self, calls: Sequence[RecordedCall]) -> Tally:
        """Report the calls as events of their own time, in batches."""
        tally = Tally()
        with contextlib.closing(self._line()) as line:
            for first in range(0, len(calls), EVENTS_AT_ONCE):
                if self.stopped.is_set():
                    break
                batch = calls[first : first + EVENTS_AT_ONCE]
                self._report(line, batch, tally)
                self.done += len(batch)
        return tally

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
        tally.seconds.append(time.perf_counter() - began)
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

    def _report(self, line: Line, calls: Sequence[RecordedCall], tally: Tally) -> None:
        began = time.perf_counter()
        status, answer, _ = line.post("/events", _bytes([self._event(call) for call in calls]))
        tally.seconds.append(time.perf_counter() - began)
        if status != 200:
            raise CallsFailed(f"The events were refused: {sentence(answer)}")
        refused = {each["index"] for each in answer["rejected"]}
        tally.calls += len(calls)
        tally.admitted += answer["accepted"] + answer["duplicates"]
        tally.duplicates += answer["duplicates"]
        tally.denied.update(each["code"] for each in answer["rejected"])
        tally.tokens += sum(c.actual for place, c in enumerate(calls) if place not in refused)

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
