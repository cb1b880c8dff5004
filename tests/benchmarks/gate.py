"""Measures Farebox on this machine and writes docs/benchmarks.md: `make bench`.

    python -m tests.benchmarks.gate --only gate --seconds 2 --rounds 1 --output /tmp/seen.md

Each section brings its own database and processes, and can be measured alone.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import (
    beside,
    closing,
    crowding,
    deciding,
    growing,
    history,
    holding,
    importing,
    ingesting,
    measuring,
    overloading,
    processes,
    returning,
    rolling,
    waiting,
    writing,
)
from tests.benchmarks.measuring import ROOT, Effort

SECTIONS: dict[str, tuple[str, Callable[[argparse.Namespace, Effort], str]]] = {
    "gate": (deciding.TITLE, deciding.measure),
    "processes": (processes.TITLE, processes.measure),
    "overload": (overloading.TITLE, overloading.measure),
    "import": (importing.TITLE, importing.measure),
    "killed": (returning.TITLE, returning.measure),
    "beside": (beside.TITLE, beside.measure),
    "ingest": (ingesting.TITLE, ingesting.measure),
    "growth": (growing.TITLE, growing.measure),
    "history": (history.TITLE, history.measure),
    "customers": (crowding.TITLE, crowding.measure),
    "holds": (holding.TITLE, holding.measure),
    "rollups": (rolling.TITLE, rolling.measure),
    "closing": (closing.TITLE, closing.measure),
    "waiting": (waiting.TITLE, waiting.measure),
}
NAMED_ONLY = ("history", "customers", "holds")  # take much room and time


def main() -> int:
    """Measure, print, write; 1 where a section could not be measured."""
    chosen = _arguments().parse_args()
    effort = Effort(chosen.seconds, chosen.rounds, chosen.connections)
    failed = 0
    for name in chosen.only:
        title, measure = SECTIONS[name]
        measuring.say(f"== {title}")
        try:
            text = measure(chosen, effort)
        except Exception:  # noqa: BLE001  # reported, and the others go on
            # The other sections are worth having without this one, whose older text stays.
            traceback.print_exc()
            failed = 1
            continue
        before = chosen.output.read_text() if chosen.output.exists() else ""
        order = [each for each, _ in SECTIONS.values()]
        chosen.output.write_text(writing.rewrite(before, {title: text}, order=order))
        sys.stdout.write(f"## {title}\n\n{text}\n\n")
        sys.stdout.flush()
    return failed


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gate")
    parser.add_argument(
        "--only",
        type=_names,
        default=[name for name in SECTIONS if name not in NAMED_ONLY],
        help=f"{', '.join(SECTIONS)}; all but {', '.join(NAMED_ONLY)}, where none is named",
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of one case in one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--customers", type=int, default=5_000)
    parser.add_argument("--drf-customers", type=int, default=1_000)
    parser.add_argument(
        "--most-customers", type=int, default=1_000_000, help="growth: up to this many (1.5 GB)"
    )
    parser.add_argument(
        "--most-events",
        type=int,
        default=10_000_000,
        help="growth: up to this many stored (4 GB for ten million, twice that with WAL)",
    )
    parser.add_argument(
        "--history-events",
        type=int,
        default=100_000_000,
        help="history: so many stored, beside a million (300 bytes of disk for one)",
    )
    parser.add_argument("--history-customers", type=int, default=1_000_000, help="history: in each")
    parser.add_argument(
        "--history-home",
        type=Path,
        help="history: keep what is stored in this folder, to measure again (storing.py)",
    )
    parser.add_argument(
        "--copies",
        type=int,
        default=50_000,
        help="customers: FAREBOX_GATE_COPIES (2,000 at least), and twice as many are active",
    )
    parser.add_argument(
        "--closed-holds",
        type=int,
        default=10_000_000,
        help="holds: so many, beside ten thousand (about 1 kB of disk for one, with WAL)",
    )
    parser.add_argument(
        "--most-subscriptions", type=int, default=10_000, help="closing: up to this many at once"
    )
    parser.add_argument("--waiting-customers", type=int, default=200, help="waiting: for each row")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks.md")
    return parser


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in SECTIONS]:
        raise argparse.ArgumentTypeError(f"no such section: {', '.join(unknown)}")
    return names


if __name__ == "__main__":
    raise SystemExit(main())
