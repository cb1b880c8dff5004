"""The SQL statements of `metering/sql/`, by name. No Django: the gate uses them as well."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "sql"


_PART = re.compile(r"-- \[(\w+)\n(.*?)-- \]\n", re.DOTALL)


@cache
def load(name: str, parts: frozenset[str] | None = None) -> str:
    """Return one statement, without comments and indentation; its contract is in its header.

    Of the parts that stand between `-- [name` and `-- ]` only those named are in it; None: all.
    """
    text = (_FOLDER / f"{name}.sql").read_text(encoding="utf-8")
    text = _PART.sub(lambda part: part[2] if parts is None or part[1] in parts else "", text)
    lines = (line.partition("--")[0].strip() for line in text.splitlines())
    return " ".join(line for line in lines if line)


@cache
def numbered(name: str, parts: frozenset[str] | None = None) -> tuple[str, tuple[str, ...]]:
    """Return a statement with `$1, $2, …` in place of names, and the names in that order.

    For raw cursors: they send the text as it is, where others take it apart on every execution.
    """
    names: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return f"${names.setdefault(found[1], len(names) + 1)}"

    text = re.sub(r"%\((\w+)\)s", number, load(name, parts))
    return text, tuple(names)
