"""Lists in pages: `{"data": […], "has_more": true, "next": "…"}` for `?limit=` and `?cursor=`."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, TypeVar

from django.core.exceptions import ValidationError as ValueRefused
from django.db.models import Model, Q, QuerySet
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request

LIMIT_DEFAULT, LIMIT_MAX = 25, 100
M = TypeVar("M", bound=Model)


class CursorPage:
    """One page of a queryset, newest first unless `ordering` says otherwise.

    The cursor holds the ordering values of the last row seen, so that rows that come and go
    between two pages neither repeat nor hide others. `ordering` must be unique in total and its
    columns not null.
    """

    def __init__(self, queryset: QuerySet[M], request: Request, ordering: Sequence[str]) -> None:
        limit = _limit(request)
        fields = [name.lstrip("-") for name in ordering]
        cursor = request.query_params.get("cursor")
        if cursor is not None:
            queryset = queryset.filter(_after(queryset.model, ordering, _decode(cursor)))
        rows = list(queryset.order_by(*ordering)[: limit + 1])
        self.has_more = len(rows) > limit
        self.rows: list[Any] = rows[:limit]
        self.next = (
            _encode([getattr(rows[limit - 1], name) for name in fields]) if self.has_more else None
        )

    def body(self, data: Sequence[Any]) -> dict[str, Any]:
        """The answer for the rows as the view shows them."""
        return {"data": list(data), "has_more": self.has_more, "next": self.next}


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(LIMIT_DEFAULT))
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= LIMIT_MAX):
        raise _refused("limit", f"This must be a whole number from 1 to {LIMIT_MAX}.")
    return int(text)


def _after(model: type[Model], ordering: Sequence[str], values: list[Any]) -> Q:
    """Rows behind the one with these values, in this order."""
    if len(values) != len(ordering):
        raise _refused("cursor", "This cursor is not from this list.")
    behind, same = Q(pk__in=[]), Q()
    for name, value in zip(ordering, values, strict=True):
        field = name.lstrip("-")
        try:
            parsed = model._meta.get_field(field).to_python(value)  # type: ignore[union-attr]  # noqa: SLF001
        except (ValueRefused, ValueError, TypeError) as error:
            raise _refused("cursor", "This cursor is not from this list.") from error
        if isinstance(parsed, int) and not -(2**63) <= parsed < 2**63:
            raise _refused("cursor", "This cursor is not from this list.")
        comparison = "lt" if name.startswith("-") else "gt"
        behind |= same & Q(**{f"{field}__{comparison}": parsed})
        same &= Q(**{field: parsed})
    return behind


def _encode(values: list[Any]) -> str | None:
    text = json.dumps(values, default=str, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str) -> list[Any]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        values = json.loads(base64.b64decode(padded.encode(), altchars=b"-_", validate=True))
    except (ValueError, RecursionError) as error:
        raise _refused("cursor", "This is no cursor of ours.") from error
    if not isinstance(values, list) or not all(isinstance(each, str | int) for each in values):
        raise _refused("cursor", "This is no cursor of ours.")
    if any(isinstance(each, str) and "\x00" in each for each in values):
        raise _refused("cursor", "This is no cursor of ours.")
    return values


def _refused(param: str, sentence: str) -> ValidationError:
    return ValidationError({param: [ErrorDetail(sentence, code="invalid")]})
