"""The documents that are made from the code, so that they cannot say something else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from django.conf import settings

from accounts.domain.problem_types import PROBLEM_TYPES
from config import environment


def configuration_markdown() -> str:
    """docs/configuration.md: every variable that the environment can give."""
    lines = [
        "# Configuration",
        "",
        "Made by `python manage.py documents` from `config/environment.py`. A variable that is not",
        "here does not exist; an empty one counts as not set. Secrets are never shown or logged.",
        "",
        "| Variable | Default | Takes | What it does |",
        "|---|---|---|---|",
    ]
    for setting in environment.declared():
        default = _shown(setting.default)
        cells = (f"`{setting.name}`", default, setting.expects, setting.help)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def configuration_json(variables: Mapping[str, str]) -> str:
    """Every variable as JSON, with whether these variables set it; no values of secrets."""
    rows = [
        {
            "name": setting.name,
            "default": _plain(setting.default),
            "expects": setting.expects,
            "help": setting.help,
            "secret": setting.secret,
            "set": bool(variables.get(setting.name, "").strip()),
        }
        for setting in environment.declared()
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def problems_markdown() -> str:
    """docs/problems.md: every problem that an answer can be."""
    lines = [
        "# Problems",
        "",
        "Made by `python manage.py documents` from `accounts/domain/problem_types.py`. Every error",
        "is RFC 9457 `application/problem+json`; its `type` is the page `/docs/problems/<code>` of",
        "the server that answered. `code` is stable.",
        "",
        "| Status | Code | When | What to do |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {kind.status} | `{kind.code}` | {kind.when} | {kind.mend} |"
        for kind in sorted(PROBLEM_TYPES.values(), key=lambda kind: kind.status)
    ]
    return "\n".join(lines) + "\n"


def openapi_text() -> str:
    """docs/openapi.json: what GET /api/v1/openapi.json answers."""
    from config.openapi import description  # loads every view; the others need none

    return json.dumps(description(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


DOCUMENTS: dict[str, Callable[[], str]] = {
    "docs/configuration.md": configuration_markdown,
    "docs/problems.md": problems_markdown,
    "docs/openapi.json": openapi_text,
}


def stale_documents() -> list[str]:
    """The documents that differ from what the code would make."""
    return [name for name, make in DOCUMENTS.items() if _read(name) != make()]


def write_documents() -> list[str]:
    """Write the stale documents anew and return their names."""
    stale = stale_documents()
    for name in stale:
        path = settings.BASE_DIR / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(DOCUMENTS[name](), encoding="utf-8")
    return stale


def _read(name: str) -> str | None:
    path = settings.BASE_DIR / name
    return str(path.read_text(encoding="utf-8")) if path.exists() else None


def _plain(default: object) -> object:
    return list(default) if isinstance(default, tuple) else default


def _shown(default: object) -> str:
    match default:
        case "" | ():
            return "*(empty)*"
        case bool():
            return f"`{str(default).lower()}`"
        case tuple():
            return f"`{','.join(default)}`"
        case _:
            return f"`{default}`"
