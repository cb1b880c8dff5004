"""The public pages that explain the API: its description, and every problem."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe

from accounts.domain.problem_types import PROBLEM_TYPES
from config.openapi import description

METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Row:
    """One member of a shape or one parameter, as the page shows it."""

    name: str
    kind: str
    required: bool
    about: str
    link: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One status with the shape of its body."""

    status: str
    about: str
    kind: str
    link: str


@dataclass(frozen=True, slots=True)
class Call:
    """One method of one path."""

    method: str
    path: str
    anchor: str
    summary: str
    about: str
    key: str
    parameters: list[Row]
    bodies: list[Answer]
    answers: list[Answer]


@require_safe
def openapi_json(request: HttpRequest) -> JsonResponse:  # noqa: ARG001
    """GET /api/v1/openapi.json."""
    return JsonResponse(description())


@require_safe
def api_page(request: HttpRequest) -> HttpResponse:
    """GET /api/docs: the description as a page, without scripts."""
    return render(request, "docs/api.html", {"groups": _groups(), "shapes": _shapes()})


@require_safe
def problems_page(request: HttpRequest) -> HttpResponse:
    """GET /docs/problems/: every problem, by status."""
    kinds = sorted(PROBLEM_TYPES.values(), key=lambda kind: kind.status)
    return render(request, "docs/problems.html", {"kinds": kinds})


@require_safe
def problem_page(request: HttpRequest, code: str) -> HttpResponse:
    """GET /docs/problems/<code>: where the `type` of a problem leads."""
    kind = PROBLEM_TYPES.get(code)
    if kind is None:
        raise Http404(f"There is no problem called {code}.")
    return render(request, "docs/problem.html", {"kind": kind, "mend": _with_code(kind.mend)})


def _with_code(text: str) -> SafeString:
    """A sentence whose words in backticks are code."""
    shown = [
        format_html("<code>{}</code>", part) if place % 2 else part
        for place, part in enumerate(text.split("`"))
    ]
    return format_html_join("", "{}", ((part,) for part in shown))


@cache
def _groups() -> list[tuple[str, list[Call]]]:
    groups: dict[str, list[Call]] = {}
    for path, operations in description()["paths"].items():
        for method in METHODS:
            if method in operations:
                name = path.removeprefix("/api/v1/").split("/")[0]
                groups.setdefault(name, []).append(_call(method, path, operations[method]))
    return sorted(groups.items(), key=lambda group: (group[0] not in _FIRST, group[0]))


_FIRST = ("check", "holds", "events")


def _call(method: str, path: str, operation: dict[str, Any]) -> Call:
    bodies = operation.get("requestBody", {}).get("content", {})
    keys = [name for one in operation.get("security", []) for name in one]
    return Call(
        method=method.upper(),
        path=path,
        anchor=f"{method}{path.replace('/', '-').replace('{', '').replace('}', '')}",
        summary=operation.get("summary", ""),
        about=operation.get("description", ""),
        key=", ".join(_KEY_NAMES.get(name, name) for name in keys),
        parameters=[
            Row(
                name=each["name"],
                kind=_kind(each.get("schema", {})),
                required=each.get("required", False),
                about=each.get("description", ""),
                link="",
            )
            for each in operation.get("parameters", [])
        ],
        bodies=[_answer(media, "", content) for media, content in bodies.items()],
        answers=[
            _answer(status, each.get("description", ""), content)
            for status, each in operation["responses"].items()
            for content in (each.get("content") or {"": {}}).values()
        ],
    )


_KEY_NAMES = {"operatorKey": "fb_op_…", "customerKey": "fb_key_…", "gatewayKey": "fb_gw_…"}


def _answer(status: str, about: str, content: dict[str, Any]) -> Answer:
    schema = content.get("schema", {})
    return Answer(status, about, _kind(schema), _link(schema))


@cache
def _shapes() -> list[tuple[str, str, list[Row]]]:
    schemas = description()["components"]["schemas"]
    return [
        (name, schema.get("description", ""), list(_rows(schema)))
        for name, schema in sorted(schemas.items())
    ]


def _rows(schema: dict[str, Any]) -> Iterator[Row]:
    if "enum" in schema:
        yield Row("", _kind(schema), required=False, about="", link="")
    required = schema.get("required", [])
    for name, member in schema.get("properties", {}).items():
        about = member.get("description", "")
        yield Row(name, _kind(member), required=name in required, about=about, link=_link(member))


def _kind(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    for joint, word in (("oneOf", " or "), ("anyOf", " or "), ("allOf", " with ")):
        if joint in schema:
            return word.join(_kind(each) for each in schema[joint])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(str(each) for each in schema["enum"] if each is not None)
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    kind = str(schema.get("format") or schema.get("type") or "anything")
    return f"{kind} or null" if schema.get("nullable") else kind


def _link(schema: dict[str, Any]) -> str:
    """The name of the shape that a schema refers to first, if any."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    parts = [schema["items"]] if "items" in schema else []
    for joint in ("oneOf", "anyOf", "allOf"):
        parts += schema.get(joint, [])
    return next((link for each in parts if (link := _link(each))), "")
