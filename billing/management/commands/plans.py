"""`manage.py plans export|diff|apply FILE`: plans as code."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml
from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.domain.plan_files import DescribedPlan, PlanFileInvalid, parse_plan_file
from billing.operations.plan_files import PlanChange, apply_plans, compare_plans
from billing.queries.plan_files import exported

ACTOR: Final = "plans"
_SIGNS: Final = {"create": "+", "change": "~", "archive": "-", "none": " "}


class Command(BaseCommand):
    """Exports what is sold, compares a file with it, or makes it so; `-` is standard input."""

    help = "Plans as code: export what is sold, compare a file with it, apply the file."

    def add_arguments(self, parser: CommandParser) -> None:
        """One of three things to do."""
        doing = parser.add_subparsers(dest="doing", required=True)
        export = doing.add_parser("export", help="write all plans as YAML")
        export.add_argument("file", nargs="?", default="-", help="where to (standard output)")
        for name, text in (
            ("diff", "show what applying the file would change; exit code 1 if anything"),
            ("apply", "make the plans what the file says, all of it or nothing"),
        ):
            one = doing.add_parser(name, help=text)
            one.add_argument("file", help="YAML or JSON; - for standard input")
            one.add_argument(
                "--archive-missing", action="store_true", help="archive plans it does not name"
            )
            if name == "apply":
                one.add_argument("--draft", action="store_true", help="new versions stay drafts")
        for each in (export, *(doing.choices[name] for name in ("diff", "apply"))):
            each.add_argument("--json", action="store_true", help="JSON instead of text")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Do it; a file that is refused changes nothing."""
        if options["doing"] == "export":
            self._export(options)
            return
        try:
            plans = _read(options["file"])
            missing = options["archive_missing"]
            if options["doing"] == "diff":
                changes = compare_plans(plans, archive_missing=missing)
            else:
                changes = apply_plans(
                    plans,
                    activate=not options["draft"],
                    archive_missing=missing,
                    actor=ACTOR,
                    now=datetime.now(UTC),
                )
        except PlanFileInvalid as invalid:
            raise CommandError(str(invalid)) from invalid
        self.stdout.write(
            json.dumps(_as_data(changes), indent=2) if options["json"] else _text(changes)
        )
        if options["doing"] == "diff" and any(each.action != "none" for each in changes):
            sys.exit(1)

    def _export(self, options: dict[str, Any]) -> None:
        found = exported()
        text = (
            json.dumps(found, indent=2, ensure_ascii=False) + "\n"
            if options["json"]
            else yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=100)
        )
        if options["file"] == "-":
            self.stdout.write(text, ending="")
        else:
            Path(options["file"]).write_text(text, encoding="utf-8")


def _read(file: str) -> tuple[DescribedPlan, ...]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        return parse_plan_file(yaml.safe_load(text))
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise CommandError(f"{file} is not YAML: {error}") from error


def _as_data(changes: list[PlanChange]) -> dict[str, Any]:
    return {
        "changed": sum(each.action != "none" for each in changes),
        "plans": [
            {
                "key": each.key,
                "action": each.action,
                "version": each.version,
                "differences": [
                    {"path": one.path, "before": one.before, "after": one.after}
                    for one in each.differences
                ],
            }
            for each in changes
        ],
    }


def _text(changes: list[PlanChange]) -> str:
    lines = []
    for each in changes:
        version = f" (version {each.version})" if each.version else ""
        done = "as it is" if each.action == "none" else each.action
        lines.append(f"{_SIGNS[each.action]} {each.key}: {done}{version}")
        if each.action == "change":
            lines += [
                f"    {one.path}: {json.dumps(one.before)} -> {json.dumps(one.after)}"
                for one in each.differences
            ]
    changed = sum(each.action != "none" for each in changes)
    lines.append(f"{changed} of {len(changes)} plans differ." if changed else "Nothing differs.")
    return "\n".join(lines)
