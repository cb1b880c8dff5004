"""docs/benchmarks.md: the numbers, and what they were measured on."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psycopg

ROOT = Path(__file__).resolve().parents[2]
QUIET = 1.0


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure. `items`: what one request counts for."""

    name: str
    title: str
    path: str
    body: str
    items: int = 1
    hot: bool = False
    connections: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """Items a second, and how long a request took."""

    case: Case
    per_second: float
    p50_ms: float
    p99_ms: float
    faults: dict[str, int]


def conditions(
    dsn: str, chosen: argparse.Namespace, *, load_before: float
) -> list[tuple[str, str]]:
    """What the numbers depend on."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), current_setting('synchronous_commit'),"
            " current_setting('fsync')"
        ).fetchone()
    assert row is not None
    connections = f"{chosen.connections} connections (fewer where a request is a batch)"
    packages = ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "Django", "psycopg"))
    busy = "" if load_before < QUIET else ": others used the machine, the numbers are too low"
    return [
        ("Date", f"{datetime.now(UTC):%Y-%m-%d}, commit {_commit()}"),
        ("Machine", f"{_processor()}, {os.cpu_count()} cores, {platform.system()}"),
        ("Load before", f"{load_before:.1f}{busy}"),
        ("Python", f"{platform.python_version()}, {packages}"),
        ("PostgreSQL", f"{row[0]}, synchronous_commit {row[1]}, fsync {row[2]}, same machine"),
        ("Server", "one uvicorn process with uvloop and httptools"),
        (
            "Load",
            f"one process, {connections}, {chosen.customers:,} customers",
        ),
        (
            "Each case",
            f"median of {chosen.rounds} rounds of {chosen.seconds:g} seconds, 1 second to warm up",
        ),
    ]


def page(results: Sequence[Result], told: Sequence[tuple[str, str]]) -> str:
    """The whole document."""
    least = results[0].per_second
    rows = "\n".join(_row(result, least=least) for result in results)
    facts = "\n".join(f"| {name} | {value} |" for name, value in told)
    return f"""# Benchmarks

Written by `make bench` (`tests/benchmarks/gate.py`), which measures on your machine: a durable
PostgreSQL, one server process, and the load in a process of its own, all on the same machine. So
compare the ratios, not the numbers: *nothing* is the same server reading a body and answering it.

| Case | a second | of nothing | p50 | p99 |
|---|--:|--:|--:|--:|
{rows}

A second: calls or events, not requests; a hold with its settle is one. p50 and p99 are of one
request (of both, for a hold with its settle), with all connections always waiting for an answer:
they are the time in a full queue. The DRF view does the same work one transaction a call: it
authenticates, locks the balance, writes the event and the balance; it runs in 16 threads with a
connection each. It lacks the holds, grants, replays and denials that the gate has.

| Measured on | |
|---|---|
{facts}
"""


def _row(result: Result, *, least: float) -> str:
    faults = ", ".join(f"{count} of {fault}" for fault, count in sorted(result.faults.items()))
    title = result.case.title + (f" ({faults})" if faults else "")
    share = f"{result.per_second / least:.2f}" if least else ""
    return (
        f"| {title} | {result.per_second:,.0f} | {share} | {result.p50_ms:,.1f} ms |"
        f" {result.p99_ms:,.1f} ms |"
    )


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else "none yet"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
