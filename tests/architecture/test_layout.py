"""Rules that a reader would otherwise have to remember: sizes, words, clocks, floats, tasks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.architecture.sources import ROOT, dotted, sources, without_docstring

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
FORBIDDEN_WORDS = {
    *("service", "services", "manager", "managers", "helper", "helpers", "util", "utils"),
    *("common", "misc", "quota", "quotas", "record", "records"),
}
SIGNALS = ("django.dispatch", "django.db.models.signals", "django.core.signals")


def _words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def test_files_stay_small_enough_to_be_read_whole() -> None:
    long = {
        source.name: lines
        for source in sources("accounts", "metering", "billing", "config", "tests")
        if (lines := len(source.text.splitlines())) > FILE_LINES_MAX
    }
    assert long == {}


def test_functions_fit_on_a_page() -> None:
    long = {
        source.at(function): f"{function.name}: {lines} lines"
        for source in sources()
        for function in source.functions()
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES_MAX
    }
    assert long == {}


def test_modules_and_classes_are_named_by_the_words_of_the_field() -> None:
    wrong = [
        f"{source.name}: {word}"
        for source in sources()
        for room in source.rooms
        for word in _words(room) & FORBIDDEN_WORDS
    ]
    for source in sources():
        for class_ in source.classes():
            # Django asks a custom user model for a manager, and calls it that.
            if any(dotted(base).endswith("Manager") for base in class_.bases):
                continue
            wrong += [
                f"{source.at(class_)}: {class_.name}" for _ in _words(class_.name) & FORBIDDEN_WORDS
            ]
    assert wrong == []


def test_nothing_happens_by_signal() -> None:
    wrong = [
        source.at(node)
        for source in sources()
        for node in source.nodes
        if (isinstance(node, ast.ImportFrom) and (node.module or "").startswith(SIGNALS))
        or (isinstance(node, ast.Import) and any(n.name.startswith(SIGNALS) for n in node.names))
    ]
    assert wrong == []


def _floats(tree: ast.Module) -> Iterator[ast.expr]:
    """Where a float is made or declared; asking whether something is one, to refuse it, is not."""
    refusals = {
        id(named)
        for node in ast.walk(tree)
        if isinstance(node, ast.MatchClass)
        or (isinstance(node, ast.Call) and dotted(node) == "isinstance")
        for named in ast.walk(node)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=float()) | ast.Attribute(attr="FloatField"):
                yield node
            case ast.Name(id="float") if id(node) not in refusals:
                yield node


def test_no_float_comes_near_a_quantity_or_money() -> None:
    wrong = [
        source.at(node)
        for source in sources("accounts", "metering", "billing")
        if {"domain", "models"} & set(source.rooms)
        for node in _floats(source.tree)
    ]
    assert wrong == []


def test_domain_divides_by_decimals_and_whole_numbers_only() -> None:
    """`/` between two integers is a float; in domain/ it stands where a Decimal does."""
    wrong = [
        source.at(node)
        for source in sources("accounts", "metering", "billing")
        if "domain" in source.rooms
        for node in source.nodes
        if isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Div)
        and (isinstance(node.left, ast.Constant) or isinstance(node.right, ast.Constant))
    ]
    assert wrong == []


def test_each_task_is_one_call() -> None:
    wrong = []
    for source in sources():
        for function in source.functions():
            names = {dotted(each) for each in function.decorator_list}
            if not names & {"shared_task", "celery.shared_task", "app.task"}:
                continue
            match without_docstring(function.body):
                case [ast.Expr(value=ast.Call()) | ast.Return(value=ast.Call())]:
                    pass
                case _:
                    wrong.append(f"{source.at(function)}: {function.name}")
    assert wrong == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        source.name
        for source in sources()
        if source.tree.body and ast.get_docstring(source.tree) is None
    ]
    assert silent == []


def test_every_task_has_its_place_in_the_one_beat_table() -> None:
    """A task is woken by the beat; one that only a nudge starts could be lost for good."""
    text = (ROOT / "config" / "celery.py").read_text(encoding="utf-8")
    named = {
        str(keyword.value.value)
        for source in sources()
        for function in source.functions()
        for decorator in function.decorator_list
        if isinstance(decorator, ast.Call) and dotted(decorator).endswith(("shared_task", ".task"))
        for keyword in decorator.keywords
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant)
    }
    assert {name for name in named if f'"{name}"' not in text} == set()
