"""What every section stands on: a durable PostgreSQL, a server of its own, customers, the load."""

from __future__ import annotations

import contextlib
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3

from config.embedded.postgres import Cluster

ROOT = Path(__file__).resolve().parents[2]
CHECK, EVENTS, NOOP = "/api/v1/check", "/api/v1/events", "/bench/noop"
_PREPARE_AT_MOST = 3_000  # batches kept in the load's memory


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: what `--seconds`, `--rounds` and `--connections` said."""

    seconds: float
    rounds: int
    connections: int
    warm_up_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure. `items`: checks or events in one request, 0 for one that is itself."""

    name: str
    title: str
    path: str
    kind: str
    items: int = 0
    customers: int = 0  # 0: all of them
    connections: int = 0  # 0: as the effort says
    rate: float = 0.0  # requests a second, open loop; 0: closed loop
    body: str = ""


@dataclass(slots=True)
class Result:
    """What the rounds of one case saw; the medians are what counts."""

    case: Case
    rounds: list[dict[str, Any]] = field(default_factory=list)

    def median(self, name: str) -> float:
        """The median of a figure over the rounds."""
        return statistics.median(found[name] for found in self.rounds) if self.rounds else 0.0

    def share(self, name: str) -> float:
        """The median of a figure over the requests/s of nothing that were seen just before it."""
        shares = [found[name] / found["nothing"] for found in self.rounds if found["nothing"]]
        return statistics.median(shares) if shares else 0.0

    @property
    def faults(self) -> dict[str, int]:
        """Answers that were not what they should be, by kind, over all rounds."""
        total: dict[str, int] = {}
        for found in self.rounds:
            for fault, count in found["faults"].items():
                total[fault] = total.get(fault, 0) + count
        return total


@dataclass(frozen=True, slots=True)
class World:
    """Customers to measure with, and the server that serves them."""

    gateway_key: str
    keys: Sequence[str]
    port: int
    process_id: int


def play(case: Case, effort: Effort, world: World) -> dict[str, Any]:
    """Run the load of one case once."""
    plan = {
        "asked": {
            "kind": case.kind,
            "path": case.path,
            "gateway_key": world.gateway_key,
            "keys": list(world.keys[: case.customers] if case.customers else world.keys),
            "prefix": secrets.token_hex(4),
            "items": case.items,
            "body": case.body,
        },
        "connections": case.connections or effort.connections,
        "seconds": effort.seconds,
        "warm_up_s": effort.warm_up_s,
        "prepare_at_most": _PREPARE_AT_MOST,
        "rate": case.rate,
        "port": world.port,
        "server": world.process_id,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.loading"],
        cwd=ROOT,
        input=json.dumps(plan),
        stdout=subprocess.PIPE,
        text=True,
        timeout=120 + 3 * effort.seconds,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    told = f"{found['per_second']:>10,.0f}/s  p99 {found['p99_ms']:.1f} ms  {found['faults'] or ''}"
    say(f"{case.title:<60} {told}")
    return found


def play_rounds(cases: Sequence[Case], effort: Effort, world: World) -> dict[str, Result]:
    """Every case in every round, so that a noisy moment of the machine touches all alike."""
    results = {case.name: Result(case) for case in cases}
    for _ in range(effort.rounds):
        for case in cases:
            results[case.name].rounds.append(play(case, effort, world))
    return results


def play_by_turns(
    nothing: Case, cases: Sequence[Case], effort: Effort, world: World
) -> dict[str, Result]:
    """As `play_rounds`, each case right after a turn of `nothing`, which its `share` is of.

    A machine that others use is twice as fast in one minute as in the next.
    """
    results = {case.name: Result(case) for case in (nothing, *cases)}
    for _ in range(effort.rounds):
        for case in cases:
            before = play(nothing, effort, world)
            results[nothing.name].rounds.append(before | {"nothing": before["requests"]})
            found = play(case, effort, world) | {"nothing": before["requests"]}
            results[case.name].rounds.append(found)
    return results


def say(text: str) -> None:
    """Tell the person who waits."""
    sys.stderr.write(f"{text}\n")


@contextmanager
def database() -> Iterator[str]:
    """A durable cluster that is thrown away afterwards; yields its DSN."""
    home = Path(tempfile.mkdtemp(prefix="farebox-bench-"))
    home.chmod(0o711)
    cluster = Cluster(home, durable=True)
    try:
        cluster.start()
        yield cluster.dsn
    finally:
        cluster.destroy()
        shutil.rmtree(home, ignore_errors=True)


def environment(dsn: str, **more: str) -> dict[str, str]:
    """What a process of Farebox finds in its environment."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FAREBOX_", "STRIPE_"))
    }
    return {
        **kept,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "FAREBOX_DATABASE_URL": dsn,
        "FAREBOX_SECRET_KEY": secrets.token_urlsafe(48),
        "FAREBOX_LOG_LEVEL": "WARNING",
        **more,
    }


def run_module(name: str, *given: object, env: Mapping[str, str], timeout_s: float = 3_600) -> Any:
    """Run a module of the benchmarks in a process of its own; what it printed, as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{name}", *map(str, given)],
        cwd=ROOT,
        env=dict(env),
        stdout=subprocess.PIPE,
        text=True,
        timeout=timeout_s,
        check=True,
    )
    return json.loads(done.stdout)


def migrate(env: Mapping[str, str]) -> None:
    """Make the tables."""
    command = [sys.executable, "manage.py", "migrate", "-v0"]
    subprocess.run(command, cwd=ROOT, env=dict(env), check=True)


@contextmanager
def server(env: Mapping[str, str], *, processes: int = 1) -> Iterator[tuple[int, int]]:
    """Serve the gate and what it is compared with; yields (port, id of the first process)."""
    port = free_port()
    command = ["uvicorn", "tests.benchmarks.serving:application", "--port", str(port)]
    command += ["--loop", "uvloop", "--http", "config.shortcut:ShortcutProtocol", "--no-access-log"]
    command += ["--log-level", "warning", "--workers", str(processes)]
    with running([sys.executable, "-m", *command], cwd=ROOT, env=env) as process:
        await_answer(f"http://127.0.0.1:{port}/healthz", process)
        yield port, process.pid


@contextmanager
def running(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], quiet: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended afterwards."""
    said = subprocess.DEVNULL if quiet else None
    process = subprocess.Popen(command, cwd=cwd, env=dict(env), stdout=said, stderr=said)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_answer(url: str, process: subprocess.Popen[bytes], *, wait_s: float = 60) -> None:
    """Wait until a server answers 200; raises RuntimeError where it does not."""
    deadline = time.monotonic() + wait_s
    with urllib3.PoolManager(retries=False, timeout=2) as http:
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                if http.request("GET", url).status == 200:
                    return
            time.sleep(0.1)
    raise RuntimeError("the server did not answer")


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        port: int = tried.getsockname()[1]
        return port
