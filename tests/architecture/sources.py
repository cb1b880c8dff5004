"""The project's own files, as the architecture tests read them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINE = ("accounts", "metering", "billing", "config")  # each may know those to its left
APPS = LINE[:3]

type_of_function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One Python file, parsed where somebody asks for more than its text."""

    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Everything in it, which nearly every rule goes through."""
        return tuple(ast.walk(self.tree))

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def app(self) -> str:
        return self.path.relative_to(ROOT).parts[0]

    @property
    def rooms(self) -> tuple[str, ...]:
        """The folders and the file below the app, without the ending."""
        return self.path.relative_to(ROOT).with_suffix("").parts[1:]

    def functions(self) -> Iterator[type_of_function]:
        for node in self.nodes:
            if isinstance(node, type_of_function):
                yield node

    def classes(self) -> Iterator[ast.ClassDef]:
        for node in self.nodes:
            if isinstance(node, ast.ClassDef):
                yield node

    def at(self, node: ast.stmt | ast.expr) -> str:
        return f"{self.name}:{node.lineno}"


@cache
def sources(*packages: str) -> tuple[Source, ...]:
    """Every Python file of these packages, migrations left out."""
    return tuple(source for package in packages or LINE for source in _sources_of(package))


@cache
def _sources_of(package: str) -> tuple[Source, ...]:
    return tuple(
        Source(path)
        for path in sorted((ROOT / package).rglob("*.py"))
        if "migrations" not in path.parts and path.name != "bootstrap.py"
    )


@cache
def statements() -> tuple[Path, ...]:
    """Every SQL file of the apps."""
    return tuple(path for app in APPS for path in sorted((ROOT / app).rglob("*.sql")))


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    match body:
        case [ast.Expr(value=ast.Constant(value=str())), *rest]:
            return rest
        case _:
            return body


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or an attribute, of a call what it calls; else the empty text."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{dotted(value)}.{name}"
        case ast.Call(func=func):
            return dotted(func)
        case _:
            return ""
