"""docs/benchmarks.md: sections, each with the conditions it was measured under.

A section that is measured anew replaces its text; the others keep theirs with its date.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psycopg

from tests.benchmarks.measuring import Result

ROOT = Path(__file__).resolve().parents[2]
QUIET = 1.0
_OPENING = """# Benchmarks

Written by `make bench` (`tests/benchmarks/`), which measures on your machine: a durable PostgreSQL,
the server, and the load in a process of its own, all on the same machine. So compare the ratios,
not the numbers: *nothing* is the same server reading a body and answering it. Floor and aim are
what Farebox asks of itself on a machine of two cores; a figure below its floor says so.
`.venv/bin/python -m tests.benchmarks.gate --only gate,ingest` measures some sections anew, and
leaves the others. *A long history* is measured only when it is named (`--only history`): it stores
10⁸ events first, which takes 40 GB of disk and half an hour or more (`--history-events` for fewer,
`--history-home` to keep them and measure again). So are *More customers than copies*
(`--only customers`, `--copies` for fewer) and *Many closed holds* (`--only holds`, 10 GB of disk,
`--closed-holds` for fewer).
"""
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)


def rewrite(text: str, sections: Mapping[str, str], *, order: Sequence[str]) -> str:
    """The document with these sections (title -> body) in place of what it said of them."""
    found = _sections(text) | dict(sections)
    kept = [f"## {title}\n\n{found[title].strip()}\n" for title in order if title in found]
    return "\n".join([_OPENING, *kept])


def _sections(text: str) -> dict[str, str]:
    parts = _SECTION.split(text)[1:]
    return {title.strip(): body for title, body in zip(parts[::2], parts[1::2], strict=True)}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; all columns but the first are numbers."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def judged(value: float, *, floor: float | None, aim: float | None, fewer: bool = False) -> str:
    """How a figure stands to its floor and aim; `fewer`: less is better."""
    if floor is None:
        return ""
    sign = -1 if fewer else 1
    if aim is not None and sign * value >= sign * aim:
        return "aim met"
    return "floor met" if sign * value >= sign * floor else "**below the floor**"


def with_faults(title: str, result: Result) -> str:
    """A case's title, with what went wrong in it."""
    told = ", ".join(f"{count:,} of {fault}" for fault, count in sorted(result.faults.items()))
    return f"{title} (**{told}**)" if told else title


def conditions(dsn: str, *, load_before: float, more: Mapping[str, str]) -> str:
    """The table of what the numbers depend on."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), current_setting('synchronous_commit'),"
            " current_setting('fsync'), current_setting('shared_buffers')"
        ).fetchone()
    assert row is not None
    packages = ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "Django", "psycopg"))
    busy = "" if load_before < QUIET else ": others used the machine, the numbers are too low"
    facts = {
        "Date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {_commit()}",
        "Machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "Load before": f"{load_before:.1f}{busy}",
        "Python": f"{platform.python_version()}, {packages}",
        "PostgreSQL": (
            f"{row[0]}, synchronous_commit {row[1]}, fsync {row[2]}, shared_buffers {row[3]}, "
            "same machine"
        ),
        "Disk": _disk(),
        **more,
    }
    lines = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return f"| Measured on | |\n|---|---|\n{lines}"


def _disk() -> str:
    """What a commit waits for at least: the file of the log is written through to the disk."""
    page, took = bytes(8_192), []
    with tempfile.TemporaryFile() as file:
        file.write(page * 64)
        os.fsync(file.fileno())
        for number in range(300):
            begun = time.perf_counter()
            os.pwrite(file.fileno(), page, number % 64 * len(page))
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - begun) * 1_000)
    p50, p99 = statistics.median(took), statistics.quantiles(took, n=100)[98]
    return f"fdatasync of 8 kB: p50 {p50:.2f} ms, p99 {p99:.2f} ms (every commit waits for one)"


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=, changed since"],
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
