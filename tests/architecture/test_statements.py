"""SQL: which tables it names, and that what the gate decides on changes under its version."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from django.apps import apps

from tests.architecture.sources import (
    APPS,
    ROOT,
    Source,
    dotted,
    sources,
    statements,
    type_of_function,
)
from tests.architecture.test_tables import NOT_HOT, PACKED

# What the gate keeps copies of: a customer's own state, and what all customers share.
GUARDED = {
    "accounts_apikey",
    *("metering_balance", "metering_entitlement", "metering_grant", "metering_hold"),
    "metering_standing",
}
SHARED = {"accounts_gateway", "accounts_gatewayroute", "metering_meter", "metering_offer"}
VERSIONS = ("accounts_customerversion", "accounts_catalogueversion")
# A statement says so in its header, a function in its docstring; then its callers must raise it.
BY_CALLER = "caller has raised the customer's version"

_NAMED = re.compile(
    r"\b(?:FROM|JOIN|INTO|UPDATE|TABLE|ONLY|REFERENCES)\s+\"?([a-z]+_[a-z_]+)", re.IGNORECASE
)
_WRITTEN = re.compile(
    r"\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM|MERGE\s+INTO)\s+\"?([a-z_]+)", re.IGNORECASE
)
_ORM_WRITES = {
    *("create", "bulk_create", "update", "bulk_update", "delete"),
    *("get_or_create", "update_or_create", "save"),
}


def _without_comments(text: str) -> str:
    return re.sub(r"--[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def _sql_in(source: Source) -> Iterator[tuple[str, str]]:
    """Every text in a Python file that looks like a statement, with where it stands."""
    for node in source.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            if re.search(r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|ALTER|CREATE)\b", text):
                yield source.at(node), text


@cache
def _all_sql() -> tuple[tuple[str, str, str], ...]:
    files = ((str(path.relative_to(ROOT)), path) for path in statements())
    return (
        *((name.split("/", 1)[0], name, path.read_text(encoding="utf-8")) for name, path in files),
        *(
            (source.app, place, text)
            for source in sources(*APPS)
            for place, text in _sql_in(source)
        ),
    )


def _tables(text: str) -> set[str]:
    return {
        name.lower() for name in _NAMED.findall(_without_comments(text)) if name.startswith(APPS)
    }


def test_statements_name_tables_of_their_own_or_a_lower_app() -> None:
    wrong = [
        f"{place}: {table}"
        for app, place, text in _all_sql()
        for table in _tables(text)
        if (owner := table.split("_", 1)[0]) in APPS and APPS.index(owner) > APPS.index(app)
    ]
    assert wrong == []


def test_statements_name_tables_that_exist() -> None:
    known = {
        model._meta.db_table for app in APPS for model in apps.get_app_config(app).get_models()
    } | {PACKED}
    wrong = [
        f"{place}: {table}"
        for _, place, text in _all_sql()
        for table in _tables(text)
        if table.split("_", 1)[0] in APPS
        # Partitions carry their month behind the table's name.
        and not any(table == name or table.startswith(f"{name}_") for name in known)
    ]
    assert wrong == []


@pytest.mark.parametrize("path", statements(), ids=lambda path: path.stem)
def test_a_file_is_one_statement_with_its_contract_in_the_header(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("-- "), "the header says what it does and what no row back means"
    assert _without_comments(text).strip().rstrip(";").count(";") == 0


def test_sql_that_writes_what_the_gate_copies_is_guarded_by_a_version() -> None:
    wrong = [
        f"{place}: {sorted(written)}"
        for _, place, text in _all_sql()
        if (written := set(_WRITTEN.findall(_without_comments(text))) & (GUARDED | SHARED))
        and not any(version in _without_comments(text) for version in VERSIONS)
        and not _left_to_caller(text)
    ]
    assert wrong == []


def _left_to_caller(text: str) -> bool:
    return BY_CALLER in " ".join(text.replace("--", " ").split())


def _guarded_models() -> set[str]:
    return {
        model.__name__
        for app in APPS
        for model in apps.get_app_config(app).get_models()
        if model._meta.db_table in GUARDED | SHARED
    }


def _writes(function: type_of_function, names: set[str]) -> Iterator[ast.Call]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            touched = dotted(node.func.value).split(".")[0]
            if node.func.attr in _ORM_WRITES and touched in names:
                yield node


def _runs_unguarded(function: type_of_function) -> Iterator[ast.Call]:
    """Where it loads a statement that leaves raising the version to its caller."""
    for node in ast.walk(function):
        match node:
            case ast.Call(args=[ast.Constant(value=str(name))]) if dotted(node).endswith("load"):
                for path in statements():
                    if path.stem == name and _left_to_caller(path.read_text(encoding="utf-8")):
                        yield node


def _called(function: type_of_function) -> set[str]:
    return {
        dotted(node).rsplit(".", 1)[-1] for node in ast.walk(function) if isinstance(node, ast.Call)
    }


def _guards(function: type_of_function, among: dict[str, type_of_function]) -> bool:
    """Whether it raises a version itself, or is private and each of its callers does."""
    if _called(function) & {"bump", "bump_catalogue", "bump_all"}:
        return True
    if _left_to_caller(ast.get_docstring(function) or ""):
        return True
    callers = [
        other
        for other in among.values()
        if function.name in _called(other) and other.name != function.name
    ]
    return (
        function.name.startswith("_")
        and bool(callers)
        and all(_guards(caller, among) for caller in callers)
    )


def test_code_that_writes_what_the_gate_copies_raises_the_version_with_it() -> None:
    names = _guarded_models()
    wrong = []
    for source in sources(*APPS):
        functions = {function.name: function for function in source.functions()}
        wrong += [
            f"{source.at(call)}: {function.name}"
            for function in functions.values()
            for call in (*_writes(function, names), *_runs_unguarded(function))
            if not _guards(function, functions)
        ]
    assert wrong == []


def test_the_guarded_tables_exist() -> None:
    known = {
        model._meta.db_table for app in APPS for model in apps.get_app_config(app).get_models()
    }
    assert known >= GUARDED | SHARED


# What the gate reads once and again only when the catalogue changes; which features are sold at
# all is asked of every customer's rights.
OVER_ALL_CUSTOMERS = {"read_catalogue"}


def _hot_tables() -> set[str]:
    return {
        PACKED,
        *(
            model._meta.db_table
            for model in apps.get_app_config("metering").get_models()
            if model._meta.model_name not in NOT_HOT
        ),
    }


def _blocks(text: str) -> Iterator[str]:
    """The text itself and what stands between each pair of brackets, without what is inside both.

    A query within brackets is a block of its own; other brackets stay part of what is around.
    """
    blocks, depth = [""], [0]
    for part in re.split(r"(\(\s*(?=(?:SELECT|INSERT|UPDATE|DELETE|WITH)\b)|[()])", text):
        if part.startswith("(") and part != "(":
            depth.append(len(blocks))
            blocks.append("")
        elif part == "(":
            depth.append(depth[-1])
        elif part == ")":
            depth.pop()
        else:
            blocks[depth[-1]] += f" {part} "
    yield from blocks


@pytest.mark.parametrize(
    "path",
    [path for path in statements() if path.stem not in OVER_ALL_CUSTOMERS],
    ids=lambda path: path.stem,
)
def test_a_statement_names_the_customer_wherever_it_touches_what_grows(path: Path) -> None:
    """What is distributed by customer can be found, joined and written only by customer."""
    wrong = [
        " ".join(block.split())
        for block in _blocks(_without_comments(path.read_text(encoding="utf-8")))
        if _tables(block) & _hot_tables() and "customer_id" not in block
    ]
    assert wrong == []
