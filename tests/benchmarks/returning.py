"""PostgreSQL is killed under load and started again: what callers are told, and when it is over."""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import secrets
import shutil
import statistics
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from config import environment
from config.embedded.postgres import Cluster
from tests.benchmarks import measuring, writing
from tests.benchmarks.measuring import CHECK, Effort
from tests.concurrency.own_server import OwnServer

TITLE = "When PostgreSQL is killed"
BACK_FLOOR_MS: Final = 1_000.0
_ROUNDS, _CALLERS = 20, 16
_AWAY_S, _BETWEEN_S, _PATIENCE_S = 1.0, 0.5, 30.0


@dataclass
class Load:
    """Callers that repeat each id until it is answered 200."""

    port: int
    server: OwnServer
    stopping: bool = False
    answered_at: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    refused_after_ms: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _threads: list[threading.Thread] = field(default_factory=list)

    def begin(self) -> None:
        """Set all callers to work."""
        self._threads = [threading.Thread(target=self._call_on) for _ in range(_CALLERS)]
        for each in self._threads:
            each.start()

    def end(self) -> None:
        """Let every caller finish what it began."""
        self.stopping = True
        for each in self._threads:
            each.join()

    def first_answer_after(self, moment: float) -> float:
        """When a call was answered 200 first after that."""
        seen = len(self.answered_at)
        deadline = moment + _PATIENCE_S
        while time.perf_counter() < deadline:
            for at in self.answered_at[seen:]:
                if at > moment:
                    return at
            time.sleep(0.001)  # between two looks: the figure is no finer
        raise RuntimeError("nobody was answered again")

    def _call_on(self) -> None:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_S)
        headers = {
            "authorization": f"Bearer {self.server.gateway_key}",
            "content-type": "application/json",
        }
        prefix = secrets.token_hex(4)
        while not self.stopping:
            id_ = f"{prefix}-{next(self._numbers)}"
            body = {"key": self.server.customer_key, "meter": "api.calls", "id": id_}
            raw = json.dumps(body | {"mode": "consume"})
            while True:
                begun = time.perf_counter()
                line.request("POST", CHECK, raw, headers)
                answer = line.getresponse()
                told = answer.read()
                ended = time.perf_counter()
                if answer.status == 200:
                    self.answered_at.append(ended)
                    self.ids.append(id_)
                    break
                if answer.status != 503 or answer.getheader("retry-after") != "1":
                    self.faults[f"{answer.status} {told[:80]!r}"] += 1
                self.refused_after_ms.append((ended - begun) * 1_000)
                time.sleep(0.05)
        line.close()


def measure(chosen: argparse.Namespace, effort: Effort) -> str:  # as all sections
    """Measure, and return the section's text."""
    load_before = os.getloadavg()[0]
    home = Path(tempfile.mkdtemp(prefix="farebox-bench-"))
    home.chmod(0o711)
    server = OwnServer(Cluster(home, durable=True))
    try:
        server.make()
        with measuring.server(measuring.environment(server.dsn)) as (port, _):
            load = Load(port, server)
            back_ms = _kill_and_start(server, load)
        text = _text(load, back_ms, missing=_missing(server, load))
        told = writing.conditions(server.dsn, load_before=load_before, more=_conditions())
    finally:
        server.cluster.destroy()
        shutil.rmtree(home, ignore_errors=True)
    return f"{text}\n\n{told}"


def _kill_and_start(server: OwnServer, load: Load) -> list[float]:
    back_ms: list[float] = []
    load.begin()
    try:
        load.first_answer_after(time.perf_counter())
        for number in range(_ROUNDS):
            time.sleep(_BETWEEN_S)
            server.kill()
            time.sleep(_AWAY_S)
            server.start_again()
            back = time.perf_counter()
            back_ms.append((load.first_answer_after(back) - back) * 1_000)
            measuring.say(f"{number + 1:>3}: answers {back_ms[-1]:.0f} ms after it was back")
    finally:
        load.end()
    return back_ms


def _missing(server: OwnServer, load: Load) -> int:
    """How many calls that were answered 200 are not in the books exactly once."""
    with server.cursor() as cursor:
        rows = cursor.execute(
            "SELECT external_id, count(*) FROM metering_reportedevent GROUP BY 1"
        ).fetchall()
    counted = dict(rows)
    return sum(counted.get(id_) != 1 for id_ in load.ids)


def _conditions() -> dict[str, str]:
    return {
        "Server": "one uvicorn process with uvloop and httptools, deadline "
        f"{environment.GATE_DEADLINE_MS.default:,} ms, "
        f"statement limit {environment.GATE_STATEMENT_TIMEOUT_MS.default:,} ms",
        "Load": f"{_CALLERS} callers of one customer, who repeat a refused id after 50 ms",
        "Killed": f"{_ROUNDS} times with kill -9, all of it; away for {_AWAY_S:g} second and "
        "what a recovery takes",
    }


def _text(load: Load, back_ms: list[float], *, missing: int) -> str:
    refused = load.refused_after_ms
    rows = [
        [
            "until a call is admitted, from when PostgreSQL takes connections again",
            f"{statistics.median(back_ms):,.0f} ms",
            f"{max(back_ms):,.0f} ms",
            f"{BACK_FLOOR_MS:,.0f} ms",
            writing.judged(max(back_ms), floor=BACK_FLOOR_MS, aim=None, fewer=True),
        ],
        [
            "until a call is told 503 while it is away",
            f"{statistics.median(refused):,.0f} ms",
            f"{max(refused):,.0f} ms",
            "",
            "",
        ],
    ]
    table = writing.table(["How long", "p50", "longest", "floor", ""], rows)
    faults = f" Faults: {dict(load.faults)}." if load.faults else ""
    return (
        f"{table}\n\n{len(load.ids):,} calls were admitted; {missing:,} of them are not in the "
        f"books exactly once. {len(refused):,} answers were not\n200: "
        f"{len(refused) - load.faults.total():,} were 503 with Retry-After.{faults}"
    )
