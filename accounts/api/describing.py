"""Saying in one line what a handler takes and answers, for the API's description."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers

from accounts.api.paging import LIMIT_DEFAULT, LIMIT_MAX
from accounts.api.serializing import NoBody, NoQuery, page_of

F = TypeVar("F", bound=Callable[..., Any])
Shape = type[serializers.BaseSerializer[Any]]

_LIMIT = OpenApiParameter(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
    description="How many rows a page has.",
)
_CURSOR = OpenApiParameter("cursor", str, description="`next` of the page before.")


class Description(AutoSchema):
    """Names operations by method and path, so that no two are called the same."""

    def get_operation_id(self) -> str:
        """Such as `post_api_keys_key_rotate`."""
        path = self.path.removeprefix("/api/v1/").translate(_NAMING)
        return f"{self.method.lower()}_{path}"


_NAMING = str.maketrans({"/": "_", "-": "_", ".": "_", "{": None, "}": None})


def describe(
    summary: str,
    *,
    answer: Shape | None,
    body: Shape | None = None,
    query: Shape = NoQuery,
    page: bool = False,
    status: int = 200,
    detail: str = "",
) -> Callable[[F], F]:
    """Describe one handler: its body, query, and the answer (or a page of answers)."""
    parameters: list[Any] = [] if query is NoQuery else [query]
    if page:
        assert answer is not None
        parameters += [_LIMIT, _CURSOR]
        answer = page_of(answer)
    return extend_schema(
        summary=summary,
        description=detail,
        parameters=parameters,
        request=None if body is NoBody else body,
        responses={status: answer},
    )
