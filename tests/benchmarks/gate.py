"""Measures the gate on this machine and writes docs/benchmarks.md: `make bench`.

A durable PostgreSQL, one server process with the gate and what it is compared with, and the load
in a process of its own. Every case is played in each of several rounds, and its median counts, so
that a noisy moment of the machine touches all cases alike.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3

from config.embedded.postgres import Cluster
from tests.benchmarks.writing import Case, Result, conditions, page

ROOT = Path(__file__).resolve().parents[2]
CHECK, EVENTS, NOOP, DRF = "/api/v1/check", "/api/v1/events", "/bench/noop", "/bench/drf"
CASES = (
    Case("noop", "nothing: read the body, answer", NOOP, "consume"),
    Case("peek", "peek, 1,000 customers", CHECK, "peek"),
    Case("consume", "consume, 1,000 customers", CHECK, "consume"),
    Case("consume_hot", "consume, one customer", CHECK, "consume", hot=True),
    Case("hold", "hold and settle (two calls), 1,000 customers", CHECK, "hold"),
    Case("checks", "consume, 100 a request", CHECK, "checks", items=100, connections=8),
    Case("event", "one event a request", EVENTS, "events"),
    Case("events", "1,000 events a request", EVENTS, "events", items=1_000, connections=4),
    Case("drf", "the same consume as a DRF view, 1,000 customers", DRF, "consume"),
    Case("drf_hot", "the same consume as a DRF view, one customer", DRF, "consume", hot=True),
)


@dataclass(slots=True)
class Seen:
    """What the rounds of one case saw."""

    rates: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)

    def result(self, case: Case) -> Result:
        """The medians."""
        rate, p50, p99 = map(statistics.median, (self.rates, self.p50, self.p99))
        return Result(case, rate, p50, p99, self.faults)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gate")
    parser.add_argument("--seconds", type=float, default=4.0, help="of one case in one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--customers", type=int, default=1_000)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks.md")
    chosen = parser.parse_args()
    load_before = os.getloadavg()[0]
    with _database() as dsn:
        environment = _environment(dsn)
        world = _seed(environment, chosen.customers)
        with _server(environment) as port:
            results = _measure(chosen, world, port)
        told = conditions(dsn, chosen, load_before=load_before)
    text = page(results, told)
    chosen.output.write_text(text)
    sys.stdout.write(text)
    return 0


def _measure(chosen: argparse.Namespace, world: dict[str, Any], port: int) -> list[Result]:
    seen = {case.name: Seen() for case in CASES}
    for number in range(1, chosen.rounds + 1):
        for case in CASES:
            found = _play(case, chosen, world, port)
            mine = seen[case.name]
            mine.rates.append(found["per_second"])
            mine.p50.append(found["p50_ms"])
            mine.p99.append(found["p99_ms"])
            for fault, count in found["faults"].items():
                mine.faults[fault] = mine.faults.get(fault, 0) + count
            sys.stderr.write(
                f"round {number}  {case.title:<50} {found['per_second']:>10,.0f}/s"
                f"  p99 {found['p99_ms']:.1f} ms  {found['faults'] or ''}\n"
            )
    return [seen[case.name].result(case) for case in CASES]


def _play(
    case: Case, chosen: argparse.Namespace, world: dict[str, Any], port: int
) -> dict[str, Any]:
    keys = world["drf_keys"] if case.path == DRF else world["keys"]
    plan = {
        "path": case.path,
        "case": case.body,
        "gateway_key": world["gateway_key"],
        "keys": keys[:1] if case.hot else keys[1:],
        "prefix": secrets.token_hex(4),
        "items": case.items,
        "connections": case.connections or chosen.connections,
        "seconds": chosen.seconds,
        "warm_up_s": 1.0,
        "port": port,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.loading"],
        cwd=ROOT,
        input=json.dumps(plan),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def _database() -> Iterator[str]:
    home = Path(tempfile.mkdtemp(prefix="farebox-bench-"))
    home.chmod(0o711)
    cluster = Cluster(home, durable=True)
    try:
        cluster.start()
        yield cluster.dsn
    finally:
        cluster.destroy()
        shutil.rmtree(home, ignore_errors=True)


def _environment(dsn: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FAREBOX_", "STRIPE_"))
    }
    return kept | {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "FAREBOX_DATABASE_URL": dsn,
        "FAREBOX_SECRET_KEY": secrets.token_urlsafe(48),
        "FAREBOX_LOG_LEVEL": "WARNING",
    }


def _seed(environment: dict[str, str], customers: int) -> dict[str, Any]:
    python = sys.executable
    subprocess.run([python, "manage.py", "migrate", "-v0"], cwd=ROOT, env=environment, check=True)
    done = subprocess.run(
        [python, "-m", "tests.benchmarks.seeding", str(customers)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def _server(environment: dict[str, str]) -> Iterator[int]:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        port: int = tried.getsockname()[1]
    command = ["uvicorn", "tests.benchmarks.serving:application", "--port", str(port)]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    command += ["--log-level", "warning"]
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, env=environment)
    try:
        _await(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    with urllib3.PoolManager(retries=False, timeout=2) as http:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if http.request("GET", f"http://127.0.0.1:{port}/healthz").status == 200:
                    return
            except urllib3.exceptions.HTTPError:
                time.sleep(0.1)
    raise RuntimeError("the server did not answer")


if __name__ == "__main__":
    raise SystemExit(main())
