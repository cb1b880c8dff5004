"""`manage.py import`: events from a CSV, JSON lines or Parquet file, through the HTTP API."""  # noqa: N999

from __future__ import annotations

import hashlib
import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from metering.domain.shapes.table import Layout
from metering.management import tables
from metering.management.importing import Plan, State, StateInvalid, run, unsendable
from metering.management.lines import CallsFailed

_WRITE_EVERY_S = 0.5
_SHOWN = 10
_COLUMNS = {
    "id": "its id, which makes it count once",
    "subject": "whose usage it is: customer id, external id or key",
    "type": "its type, which selects the meters",
    "time": "when it happened",
    "quantity": "what it counts as, where its meters take a quantity",
    "data": "its properties, as an object or as JSON",
}


class Command(BaseCommand):
    """Imports a file; run again it goes on where it stopped, and counts nothing twice."""

    help = "Import events from a file (CSV, JSON lines, Parquet) through the HTTP API."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """The file, where it goes, and which column says what."""
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument("--key", help="the gateway's key, fb_gw_…")
        parser.add_argument("--base-url", help="Farebox's URL (FAREBOX_BASE_URL)")
        parser.add_argument("--format", choices=tables.FORMATS, help="else as the name ends")
        for name, about in _COLUMNS.items():
            parser.add_argument(
                f"--{name}", default=name, metavar="COLUMN", help=f"{about} ({name})"
            )
        parser.add_argument("--source", help="of all events (column source, else import)")
        parser.add_argument("--of-type", metavar="TYPE", help="the type of all events")
        parser.add_argument("--customer", help="whose usage all of it is")
        parser.add_argument(
            "--property",
            action="append",
            metavar="NAME=COLUMN",
            help="may repeat; without it every other column is a property",
        )
        parser.add_argument(
            "--utc", action="store_true", help="times without an offset are UTC, else refused"
        )
        parser.add_argument(
            "--numbered",
            action="store_true",
            help="rows without an id are told apart by the file's content and their number",
        )
        parser.add_argument("--batch", type=int, default=1_000, help="rows in one request")
        parser.add_argument("--lanes", type=int, default=4, help="requests under way at once")
        parser.add_argument("--state", type=Path, help="how far it came (FILE.import.json)")
        parser.add_argument("--refused", type=Path, help="refused rows (FILE.refused.jsonl)")
        parser.add_argument("--check", action="store_true", help="read all of it, send nothing")
        parser.add_argument("--json", action="store_true", help="print the report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Read the whole file once, then send what was not sent before."""
        _refuse_nonsense(options)
        file: Path = options["file"]
        try:
            kind = options["format"] or tables.format_of(file)
            digest = tables.digest_of(file)
            plan = _plan(options, digest)
            if options["check"]:
                self._check(file, kind, plan)
                return
            total = tables.count(file, kind=kind)
            about = _about(digest, plan)
            state_at = options["state"] or file.with_name(f"{file.name}.import.json")
            state = State.read(state_at, about=about) or State(about, total)
            self._import(
                file, kind=kind, plan=plan, state=state, state_at=state_at, options=options
            )
        except (tables.FileInvalid, StateInvalid, CallsFailed) as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror or error}") from error

    def _import(
        self,
        file: Path,
        *,
        kind: tables.Format,
        plan: Plan,
        state: State,
        state_at: Path,
        options: dict[str, Any],
    ) -> None:
        refused_to = options["refused"] or file.with_name(f"{file.name}.refused.jsonl")
        began, first = time.monotonic(), state.row
        keeping = _Keeping(state_at, quiet=options["json"])
        try:
            run(
                tables.rows(file, kind=kind, after=state.row),
                plan=plan,
                state=state,
                refused_to=refused_to,
                keep=keeping.keep,
            )
        except KeyboardInterrupt as error:
            raise CommandError(
                f"Stopped at row {state.row:,} of {state.total:,}. Run it again to go on."
            ) from error
        finally:
            state.write(state_at)
            if not state.refused:
                refused_to.unlink(missing_ok=True)
        report = _report(state, seconds=time.monotonic() - began, first=first)
        self.stdout.write(json.dumps(report) if options["json"] else _table(report))
        if state.refused:
            refused = state.refused.total()
            raise CommandError(f"{refused:,} rows were refused: see {refused_to}.", returncode=3)

    def _check(self, file: Path, kind: tables.Format, plan: Plan) -> None:
        wrong = unsendable(tables.rows(file, kind=kind), plan=plan)
        for number, error in wrong[:_SHOWN]:
            said = f"row {number:,}: {error.detail}"  # a column's name may be no UTF-8
            self.stdout.write(said.encode(errors="backslashreplace").decode())
        if wrong:
            raise CommandError(f"{len(wrong):,} rows cannot be sent.", returncode=3)
        self.stdout.write("Every row can be sent.")


class _Keeping:
    """Writes the state down and shows it, but not for every request."""

    def __init__(self, path: Path, *, quiet: bool) -> None:
        self._path = path
        self._shown = sys.stderr.isatty() and not quiet
        self._next = self._began = time.monotonic()
        self._first: int | None = None

    def keep(self, state: State) -> None:
        """Take note of a state that has moved."""
        now = time.monotonic()
        self._first = state.row if self._first is None else self._first
        if now < self._next and state.row < state.total:
            return
        self._next = now + _WRITE_EVERY_S
        state.write(self._path)
        if self._shown:
            speed = (state.row - self._first) / max(now - self._began, 0.001)
            end = "\n" if state.row >= state.total else ""
            sys.stderr.write(f"\r{state.row:,} of {state.total:,} rows, {speed:,.0f}/s{end}")
            sys.stderr.flush()


def _refuse_nonsense(options: dict[str, Any]) -> None:
    if not options["key"] and not options["check"]:
        raise CommandError("--key is the gateway's key, fb_gw_….")
    for name, most in (("batch", 5_000), ("lanes", 64)):
        if not 1 <= options[name] <= most:
            raise CommandError(f"--{name} is a whole number from 1 to {most:,}.")


def _plan(options: dict[str, Any], digest: str) -> Plan:
    given = {"type": "of_type", "subject": "customer", "source": "source"}
    layout = Layout(
        **{name: options[name] for name in _COLUMNS},
        always={name: options[option] for name, option in given.items() if options[option]},
        properties=_properties(options["property"]),
        naive_is_utc=options["utc"],
    )
    return Plan(
        base_url=(options["base_url"] or settings.BASE_URL).rstrip("/"),
        key=options["key"] or "",
        layout=layout,
        source="import",
        name=digest if options["numbered"] else "",
        batch=options["batch"],
        lanes=options["lanes"],
    )


def _properties(pairs: list[str] | None) -> dict[str, str] | None:
    if pairs is None:
        return None
    found = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not (name and equals and column):
            raise CommandError(f"--property {pair}: write NAME=COLUMN.")
        found[name] = column
    return found


def _about(digest: str, plan: Plan) -> str:
    """Tells apart what is imported, how, and to where; the key may change in between."""
    said = repr((digest, plan.base_url, plan.layout, plan.source, plan.name))
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _report(state: State, *, seconds: float, first: int) -> dict[str, Any]:
    return {
        "rows": state.total,
        "done": state.row,
        "accepted": state.accepted,
        "duplicates": state.duplicates,
        "refused": dict(sorted(state.refused.items())),
        "quarantined": state.quarantined,
        "resumed_at": first,
        "seconds": round(seconds, 2),
        "rows_per_second": round((state.row - first) / max(seconds, 0.001)),
        "finished_at": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _table(report: dict[str, Any]) -> str:
    rows = [(name, report[name]) for name in ("rows", "accepted", "duplicates")]
    rows += [(f"refused: {code}", count) for code, count in report["refused"].items()]
    rows += [(name, report[name]) for name in ("quarantined", "seconds")]
    rows += [("rows/s", report["rows_per_second"])]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value:>14,}" for name, value in rows)
