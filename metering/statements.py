"""The SQL statements of `metering/sql/`, by name. No Django: the gate uses them as well."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "sql"


@cache
def load(name: str) -> str:
    """Return the text of one statement; its contract stands in its header."""
    return (_FOLDER / f"{name}.sql").read_text(encoding="utf-8")
