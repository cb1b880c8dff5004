"""`manage.py replay`: plays recorded calls through the public HTTP API, or backfills them."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from metering.domain.traces import PRESETS, Columns
from metering.management import tables
from metering.management.lines import CallsFailed
from metering.management.pinned import FileChanged, pin
from metering.management.playing import Score, Tally, play
from metering.management.recordings import Trace, TraceInvalid, look_through
from metering.management.registering import Registrar

_SHOWN_EVERY_S = 0.2
# What follows "FILE has changed since it was read first."
_NOT_PLAYED = "Nothing of it was played. Play a copy that nobody writes to."
_PLAYED = (
    "What was played before that counts, and nothing was played of what changed. Play it again as "
    "it was, from a copy: what was counted is recognised. A changed file is another one: all of it "
    "would count."
)


class Command(BaseCommand):
    """Plays a file of calls; played twice it changes nothing."""

    help = (
        "Play a file of calls (CSV, JSON lines, Parquet) through the HTTP API: hold the estimate, "
        "settle the actual."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """The file, whom to play to, and which column says what."""
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument("--format", choices=tables.FORMATS, help="else as the name ends")
        parser.add_argument("--gateway", required=True, help="Farebox's URL, or a gateway's name")
        parser.add_argument("--key", required=True, help="the gateway's key, fb_gw_…")
        parser.add_argument("--base-url", help="Farebox's URL (FAREBOX_BASE_URL)")
        parser.add_argument("--customers", type=int, default=1, help="replay-1 … replay-N")
        parser.add_argument("--operator-key", help="fb_op_…: makes customers that are not there")
        parser.add_argument("--plan", help="with --operator-key: subscribes them to this plan")
        parser.add_argument("--speed", choices=("max", "real"), default="max")
        parser.add_argument("--lanes", type=int, default=16, help="calls under way at once")
        parser.add_argument("--preset", choices=sorted(PRESETS), help="names of the columns")
        parser.add_argument("--time", help="column of the time")
        parser.add_argument("--input", help="column of the input's quantity")
        parser.add_argument("--output", help="column of the output's quantity")
        parser.add_argument(
            "--property", action="append", default=[], metavar="NAME=COLUMN", help="may repeat"
        )
        parser.add_argument("--meter", default="chat.tokens")
        parser.add_argument("--event-type", default="llm.completion", help="with --backfill")
        parser.add_argument("--estimate-output", type=int, default=500, help="held per call")
        parser.add_argument("--limit", type=int, help="only the first calls")
        parser.add_argument("--backfill", action="store_true", help="report as events of the past")
        parser.add_argument(
            "--start-at", type=datetime.fromisoformat, help="move the first call here, and the rest"
        )
        parser.add_argument("--json", action="store_true", help="print the table as JSON")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Look through the whole file, then play it. Nothing is sent of one that has a fault."""
        _refuse_nonsense(options)
        file: Path = options["file"]
        begun = False
        try:
            trace = _trace(file, options)
            seen = look_through(trace, progress=_Shown("calls read").show)
            if options["start_at"] and seen.first_at:
                trace = replace(trace, by=options["start_at"] - seen.first_at)
            score = _score(trace, options)
            trace.file.refuse_changed()
            registrar = Registrar(score.base_url, operator_key=options["operator_key"])
            registrar.provide(score.customers, plan=options["plan"])
            trace.file.refuse_changed()  # that may have taken a while
            began, begun = time.monotonic(), True
            tally = play(
                trace.calls(),
                score=score,
                first_at=seen.first_at and seen.first_at + trace.by,
                backfill=options["backfill"],
                progress=_Shown(f"of {seen.calls:,} calls", total=seen.calls).show,
            )
        except (tables.FileInvalid, TraceInvalid, CallsFailed) as error:
            said = str(error).encode(errors="backslashreplace").decode()  # a name may be no UTF-8
            raise CommandError(said) from error
        except FileChanged as error:
            raise CommandError(f"{error} {_PLAYED if begun else _NOT_PLAYED}") from error
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror or error}") from error
        except KeyboardInterrupt as error:
            raise CommandError("Stopped. Play it again: what was counted is recognised.") from error
        report = _report(tally, seconds=time.monotonic() - began)
        self.stdout.write(json.dumps(report) if options["json"] else _table(report))


class _Shown:
    """How far it is, on a terminal's standard error, a few times a second."""

    def __init__(self, what: str, *, total: int | None = None) -> None:
        self._what, self._total = what, total
        self._on = sys.stderr.isatty()
        self._next = 0.0

    def show(self, done: int) -> None:
        """Show that so many are done."""
        now = time.monotonic()
        if self._on and (now >= self._next or done == self._total):
            self._next = now + _SHOWN_EVERY_S
            end = "\n" if done == self._total else ""
            sys.stderr.write(f"\r{done:,} {self._what}{end}")
            sys.stderr.flush()


def _refuse_nonsense(options: dict[str, Any]) -> None:
    for name in ("customers", "lanes"):
        if not 1 <= options[name] <= 10_000:
            raise CommandError(f"--{name} is a whole number from 1 to 10,000.")
    if options["limit"] is not None and options["limit"] < 1:
        raise CommandError("--limit is a whole number, 1 or more.")
    if options["estimate_output"] < 0:
        raise CommandError("--estimate-output is a whole number, 0 or more.")
    if options["plan"] and not options["operator_key"]:
        raise CommandError("--plan needs --operator-key.")
    start_at = options["start_at"]
    if start_at is not None and start_at.tzinfo is None:
        raise CommandError("--start-at needs an offset, such as 2026-11-01T00:00:00Z.")


def _trace(file: Path, options: dict[str, Any]) -> Trace:
    if file.exists() and not file.is_file():
        raise CommandError(f"{file} is no file: it is read more than once, so a pipe will not do.")
    return Trace(
        file=pin(file),
        kind=options["format"] or tables.format_of(file),
        columns=_columns(options),
        limit=options["limit"],
    )


def _columns(options: dict[str, Any]) -> Columns:
    preset = PRESETS[options["preset"]] if options["preset"] else Columns()
    properties: dict[str, str] = dict(preset.properties or {})
    for pair in options["property"]:
        name, equals, column = pair.partition("=")
        if not (name and equals and column):
            raise CommandError(f"--property {pair}: write NAME=COLUMN.")
        properties[name] = column
    return Columns(
        time=options["time"] or preset.time,
        input=options["input"] or preset.input,
        output=options["output"] or preset.output,
        properties=properties,
    )


def _score(trace: Trace, options: dict[str, Any]) -> Score:
    gateway: str = options["gateway"]
    named = not gateway.startswith(("http://", "https://"))
    base_url: str = (options["base_url"] or settings.BASE_URL) if named else gateway
    return Score(
        base_url=base_url.rstrip("/"),
        key=options["key"],
        source=gateway if named else "replay",
        digest=trace.file.digest,
        customers=[f"replay-{number}" for number in range(1, options["customers"] + 1)],
        meter=options["meter"],
        event_type=options["event_type"],
        estimate=options["estimate_output"],
        real=options["speed"] == "real",
        lanes=options["lanes"],
    )


def _report(tally: Tally, *, seconds: float) -> dict[str, Any]:
    return {
        "calls": tally.calls,
        "admitted": tally.admitted,
        "denied": dict(sorted(tally.denied.items())),
        "tokens": tally.tokens,
        "duplicates": tally.duplicates,
        "seconds": round(seconds, 2),
        "p50_ms": round(tally.percentile(0.50) * 1000, 1),
        "p99_ms": round(tally.percentile(0.99) * 1000, 1),
    }


def _table(report: dict[str, Any]) -> str:
    rows = [(name, report[name]) for name in ("calls", "admitted")]
    rows += [(f"denied: {code}", count) for code, count in report["denied"].items()]
    rows += [(name, report[name]) for name in ("tokens", "duplicates", "seconds")]
    rows += [("p50 ms", report["p50_ms"]), ("p99 ms", report["p99_ms"])]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value:>14,}" for name, value in rows)
