"""The load: a process of its own that reads a plan as JSON and writes what it saw as JSON.

Closed loop: connections that stay open, each sending its next request when it has its answer.
Open loop (`rate`): requests leave at planned times whatever the server does, and an answer's time
is counted from the planned one, so that a stall of the server counts for every call that it kept
waiting.

Load and server share the machine, so the load must be cheap: plain sockets, requests prepared,
answers parsed no further than their status and length. It tells its own CPU per request.
"""

from __future__ import annotations

import gc
import json
import re
import selectors
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.bodies import Asked, requests, settle
from tests.benchmarks.watching import cpu_seconds

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_HOLD = re.compile(rb'"hold":\{"id":"(hold_[^"]+)"')
_READ = 1 << 20
_PREPARED_ITEMS = 120_000  # a second: batches are prepared for more than any server here takes
_STALLED_S = 10.0


class Caller:
    """One connection that stays open."""

    __slots__ = ("part", "receive", "send", "sent_at", "settles", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _READ)
        self.receive, self.send = self.socket.recv, self.socket.sendall
        self.part = b""
        self.sent_at = 0.0
        self.settles = False

    def fileno(self) -> int:
        """What select waits on."""
        return self.socket.fileno()

    def answer(self) -> bytes | None:
        """The answer, when all of it is here."""
        data = self.receive(_READ)
        if not data:
            raise ConnectionResetError("the server closed a connection")
        if self.part:
            data = self.part + data
        head = data.find(b"\r\n\r\n")
        if head >= 0:
            length = _LENGTH.search(data, 0, head)
            if length is not None and len(data) >= head + 4 + int(length[1]):
                self.part = b""
                return data
        self.part = data
        return None


@dataclass(slots=True)
class Seen:
    """What came of it. `seconds`: of each request that was answered 200 while it was measured."""

    asked: Asked
    server: int  # its process id
    begun: bool = False
    ended: bool = False
    cpu_s: float = 0.0  # of the load itself, while it was measured
    server_s: float = 0.0
    seconds: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)  # open loop: from the planned time to sending
    faults: Counter[str] = field(default_factory=Counter)

    def begin(self) -> None:
        """Count CPU from now on; once."""
        if not self.begun:
            self.begun = True
            self.cpu_s, self.server_s = time.process_time(), cpu_seconds(self.server)

    def end(self) -> None:
        """Count CPU until now; once."""
        if not self.ended:
            self.ended = True
            self.cpu_s = time.process_time() - self.cpu_s
            self.server_s = cpu_seconds(self.server) - self.server_s

    def judge(self, answer: bytes) -> bool:
        """Count an answer that is not what it should be; whether it is 200."""
        asked = self.asked
        if answer[9:12] != b"200":
            self.faults[answer[9:12].decode()] += 1
            return False
        if asked.items and not asked.reports:
            if answer.count(b'"status":200') != asked.items:
                self.faults["not all admitted"] += 1
        elif asked.reports and b'"rejected":[{' in answer:
            self.faults["rejected"] += 1
        return True


def closed(seen: Seen, callers: list[Caller], sent: Iterator[bytes], *, span: list[float]) -> None:
    """Each caller sends when it has its answer, until the span is over."""
    from_at, until_at = span
    waiting = selectors.DefaultSelector()
    for caller in callers:
        waiting.register(caller.socket, selectors.EVENT_READ, caller)
        caller.sent_at = time.perf_counter()
        caller.send(next(sent))
    clock, keep, holds = time.perf_counter, seen.seconds.append, seen.asked.kind == "hold"
    open_callers = len(callers)
    while open_callers:
        ready = waiting.select(_STALLED_S)
        if not ready:
            seen.faults["unanswered"] += open_callers
            break
        for key, _ in ready:
            caller = key.data
            answer = caller.answer()
            if answer is None:
                continue
            now = clock()
            good = seen.judge(answer)
            if holds and not caller.settles and (hold := _HOLD.search(answer)) is not None:
                caller.settles = True
                caller.send(settle(seen.asked, hold[1]))
                continue
            caller.settles = False
            if from_at <= now:
                seen.begin()
                if now >= until_at:
                    seen.end()
                    waiting.unregister(caller.socket)
                    open_callers -= 1
                    continue
                if good:
                    keep(now - caller.sent_at)
            caller.sent_at = now
            caller.send(next(sent))


def opened(
    seen: Seen, callers: list[Caller], sent: Iterator[bytes], *, span: list[float], rate: float
) -> None:
    """Send at planned times, `rate` a second."""
    from_at, until_at = span
    step, clock = 1 / rate, time.perf_counter
    idle, busy = deque(callers), set[Caller]()  # in turn: who is silent for long is hung up on
    waiting = _watched(callers)
    planned: deque[float] = deque()
    due_at = clock()
    while due_at < until_at or planned or busy:
        now = clock()
        while due_at <= now and due_at < until_at:
            planned.append(due_at)
            due_at += step
        while planned and idle:
            caller = idle.popleft()
            caller.sent_at = planned.popleft()
            busy.add(caller)
            caller.send(next(sent))
            if caller.sent_at >= from_at:
                seen.late.append(clock() - caller.sent_at)
        pause = max(due_at - clock(), 0.0) if due_at < until_at else _STALLED_S
        if planned:
            pause = _STALLED_S  # nobody is idle: only an answer changes that
        ready = waiting.select(pause)
        if not ready and pause == _STALLED_S:
            seen.faults["unanswered"] += len(busy)
            break
        for key, _ in ready:
            caller = key.data
            if (answer := caller.answer()) is None:
                continue
            if seen.judge(answer) and caller.sent_at >= from_at:
                seen.seconds.append(clock() - caller.sent_at)
            busy.remove(caller)
            idle.append(caller)


def _watched(callers: list[Caller]) -> selectors.BaseSelector:
    waiting = selectors.DefaultSelector()
    for caller in callers:
        waiting.register(caller.socket, selectors.EVENT_READ, caller)
    return waiting


def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Play one case and tell what was seen. Rates are items a second, of requests that ended."""
    asked = Asked(**plan["asked"])
    total_s = plan["warm_up_s"] + plan["seconds"]
    prepared = int(_PREPARED_ITEMS * total_s / asked.items) if asked.items else 0
    sent = requests(asked, prepared=min(prepared, plan["prepare_at_most"]))
    next(sent)  # batches are prepared here
    callers = [Caller(plan["port"]) for _ in range(plan["connections"])]
    seen = Seen(asked, plan["server"])
    gc.freeze()
    gc.disable()
    from_at = time.perf_counter() + plan["warm_up_s"]
    span = [from_at, from_at + plan["seconds"]]
    rate = plan["rate"]
    if rate:
        opened(seen, callers, sent, span=span, rate=rate)
    else:
        closed(seen, callers, sent, span=span)
    times, count = sorted(seen.seconds), len(seen.seconds)
    return {
        "per_second": count * (asked.items or 1) / plan["seconds"],
        "requests": count * (2 if asked.kind == "hold" else 1) / plan["seconds"],
        "p50_ms": _at(times, 0.50) * 1_000,
        "p99_ms": _at(times, 0.99) * 1_000,
        "late_p99_ms": _at(sorted(seen.late), 0.99) * 1_000,
        "cpu_us": seen.cpu_s / count * 1_000_000 if count else 0.0,
        "server_share": seen.server_s / plan["seconds"],
        "faults": dict(seen.faults),
        "span_s": total_s,  # what the faults are of
    }


def _at(times: list[float], share: float) -> float:
    return times[min(int(len(times) * share), len(times) - 1)] if times else 0.0


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(json.load(sys.stdin))))
