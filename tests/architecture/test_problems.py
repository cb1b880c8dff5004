"""Every error an operation can raise has its line in the one table to HTTP."""

from __future__ import annotations

import importlib
import inspect

from config import problems
from tests.architecture.sources import APPS, sources


def _errors(room: str) -> set[type[Exception]]:
    found: set[type[Exception]] = set()
    for source in sources(*APPS):
        if room not in source.rooms:
            continue
        module = importlib.import_module(".".join((source.app, *source.rooms)))
        found |= {
            value
            for value in vars(module).values()
            if inspect.isclass(value)
            and issubclass(value, Exception)
            and value.__module__ == module.__name__
            and not value.__name__.startswith("_")  # never leaves its module
        }
    return found


def test_every_error_of_an_operation_is_a_problem() -> None:
    missing = {
        f"{error.__module__}.{error.__name__}"
        for error in _errors("operations")
        if not any(parent in problems.PROBLEMS for parent in error.__mro__)
    }
    assert missing == set()


def test_errors_are_explained_by_a_sentence() -> None:
    silent = {
        f"{error.__module__}.{error.__name__}"
        for room in ("domain", "operations", "payments")
        for error in _errors(room)
        if not (vars(error).get("__doc__") or "").rstrip().endswith((".", "…"))
    }
    assert silent == set()
