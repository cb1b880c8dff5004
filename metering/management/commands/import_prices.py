"""`manage.py import_prices`: drafts a version of a price table from a published catalogue."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from metering.domain.price_lists import PriceList, PriceListInvalid, read_price_list
from metering.domain.prices import described, difference
from metering.management.price_sources import (
    PACKAGE,
    PriceSource,
    PriceSourceMissing,
    from_installed,
    from_path,
    from_pip,
)
from metering.models import PriceTable, PriceTableVersion
from metering.operations.pricing import (
    PricesInvalid,
    activate_prices,
    check_prices,
    create_price_table,
    draft_prices,
)
from metering.queries.prices import newest_active, price_table_by_key, prices_of

ACTOR = "import_prices"
_SHOWN = 20


class Command(BaseCommand):
    """Shows what would change and keeps a draft; nothing counts by it until it is activated."""

    help = "Draft prices per token from the catalogue in litellm's wheel, and show the difference."

    def add_arguments(self, parser: CommandParser) -> None:
        """Where from, into which table, and whether it becomes active."""
        parser.add_argument(
            "source", nargs="?", type=Path, metavar="FILE", help="JSON file or wheel"
        )
        parser.add_argument(
            "--pip", nargs="?", const=PACKAGE, metavar="PACKAGE[==VERSION]", help="download a wheel"
        )
        parser.add_argument("--table", default="llm", help="key of the price table (llm)")
        parser.add_argument(
            "--model", action="append", default=[], metavar="PATTERN", help="only these; may repeat"
        )
        parser.add_argument("--dry-run", action="store_true", help="show the difference, no draft")
        parser.add_argument("--activate", action="store_true", help="make the draft active")
        parser.add_argument(
            "--effective-at", type=datetime.fromisoformat, help="with --activate: from when on"
        )
        parser.add_argument("--json", action="store_true", help="print the report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Read all of it, compare, draft; a fault leaves everything as it was."""
        now = datetime.now(UTC)
        _refuse_nonsense(options)
        try:
            source = _source(options)
            found = _only(read_price_list(source.content), options["model"])
            check_prices(found.prices)
            with transaction.atomic():
                report = _imported(source, found, options, now=now)
        except (PriceSourceMissing, PriceListInvalid, PricesInvalid) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(json.dumps(report, indent=2) if options["json"] else _text(report))


def _refuse_nonsense(options: dict[str, Any]) -> None:
    if options["source"] is not None and options["pip"]:
        raise CommandError("Name a file, or say --pip: not both.")
    if options["effective_at"] is not None and not options["activate"]:
        raise CommandError("--effective-at goes with --activate.")
    if options["activate"] and options["dry_run"]:
        raise CommandError("A dry run activates nothing.")
    at = options["effective_at"]
    if at is not None and at.tzinfo is None:
        raise CommandError("--effective-at needs an offset, such as 2026-11-01T00:00:00Z.")


def _source(options: dict[str, Any]) -> PriceSource:
    if options["source"] is not None:
        return from_path(options["source"])
    return from_pip(options["pip"]) if options["pip"] else from_installed()


def _only(found: PriceList, patterns: list[str]) -> PriceList:
    if not patterns:
        return found
    chosen = {
        (model, name): price
        for (model, name), price in found.prices.items()
        if any(fnmatch.fnmatchcase(model, pattern) for pattern in patterns)
    }
    return replace(found, prices=chosen)


def _imported(
    source: PriceSource, found: PriceList, options: dict[str, Any], *, now: datetime
) -> dict[str, Any]:
    table = price_table_by_key(options["table"])
    base = None if table is None else newest_active(table.id)
    diff = difference(prices_of(base), found.prices)
    version = None if options["dry_run"] else _drafted(table, source, found, options, now=now)
    return {
        "table": options["table"],
        "source": source.name,
        "sha256": found.sha256,
        "models": len({model for model, _ in found.prices}),
        "prices": len(found.prices),
        "compared_with": None if base is None else base.number,
        "version": None if version is None else version.number,
        "status": "not kept" if version is None else version.status,
        "effective_at": _stamp(version),
        "left_out": {
            "unpriced": len(found.unpriced),
            "stepped": len(found.stepped),
            "rounded": len(found.rounded),
            "refused": list(found.refused),
        },
        **described(diff),
    }


def _drafted(
    table: PriceTable | None,
    source: PriceSource,
    found: PriceList,
    options: dict[str, Any],
    *,
    now: datetime,
) -> PriceTableVersion:
    if table is None:
        table = create_price_table(key=options["table"], actor=ACTOR, now=now)
    version = draft_prices(
        table.id,
        prices=found.prices,
        source=" ".join([source.name, *options["model"]]),
        sha256=found.sha256,
        actor=ACTOR,
        now=now,
    )
    if not options["activate"]:
        return version
    return activate_prices(
        table.id,
        number=version.number,
        effective_at=options["effective_at"],
        ahead=timedelta(seconds=settings.EVENT_MAX_AHEAD_S),
        actor=ACTOR,
        now=now,
    )


def _stamp(version: PriceTableVersion | None) -> str | None:
    if version is None or version.effective_at is None:
        return None
    return version.effective_at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _text(report: dict[str, Any]) -> str:
    left = report["left_out"]
    lines = [
        f"{report['source']}, sha256 {report['sha256']}",
        f"{report['prices']:,} prices of {report['models']:,} models",
        f"left out: {left['unpriced']} models that are not priced per token",
        f"left out: {len(left['refused'])} prices that are none",
        f"ordinary prices of {left['stepped']} models that cost more in long contexts",
    ]
    for kind in ("added", "changed", "removed"):
        rows = report[kind]
        lines.append(f"{kind}: {len(rows):,}")
        for row in rows[:_SHOWN]:
            percent = f" ({row['percent']} %)" if row["percent"] is not None else ""
            lines.append(
                f"  {row['model']} {row['class']}: {row['before'] or '-'} -> "
                f"{row['after'] or '-'}{percent}"
            )
        if len(rows) > _SHOWN:
            lines.append(f"  … and {len(rows) - _SHOWN:,} more (--json shows all)")
    kept = f"version {report['version']}, {report['status']}"
    when = f" from {report['effective_at']}" if report["effective_at"] else ""
    lines.append(f"{report['table']}: {kept if report['version'] else 'nothing was kept'}{when}")
    return "\n".join(lines)
