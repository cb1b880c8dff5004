"""Gates in processes of their own, for tests that kill them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
Callers = list[list[list[Any]]]


def start(
    dsn: str, gateway_key: str, callers: Callers, *, waits: bool = False
) -> subprocess.Popen[str]:
    """A gate in a process of its own, already at work, unless it `waits` to be told."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.concurrency.gate_worker"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    job = {"dsn": dsn, "gateway_key": gateway_key, "callers": callers, "waits": waits}
    process.stdin.write(json.dumps(job) + "\n")
    process.stdin.flush()
    return process


def start_together(
    dsn: str, gateway_key: str, shares: Iterable[Callers]
) -> list[subprocess.Popen[str]]:
    """A gate for each share of the callers; they begin when all of them can decide."""
    gates = [start(dsn, gateway_key, callers, waits=True) for callers in shares]
    for gate in gates:
        assert gate.stdout is not None
        assert gate.stdout.readline() == "ready\n"
    for gate in gates:
        assert gate.stdin is not None
        gate.stdin.write("go\n")
        gate.stdin.flush()
    return gates


def finish(process: subprocess.Popen[str]) -> list[tuple[int, int, int, Any]]:
    """Wait for a gate and return its answers."""
    out, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    return [tuple(json.loads(line)) for line in out.splitlines()]
