"""Serializers that refuse what they do not know, and the two ways to use one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ParseError, ValidationError
from rest_framework.request import Request


class StrictSerializer(serializers.Serializer[Any]):
    """The shape of a body: members that are not in it are refused by name."""

    def to_internal_value(self, data: Any) -> Any:
        """Return the validated values; an unknown member fails before anything else."""
        if isinstance(data, Mapping):
            known = {name for name, field in self.fields.items() if not field.read_only}
            unknown = [str(name) for name in data if name not in known]
            if unknown:
                offered = ", ".join(sorted(known)) or "none"
                sentence = f"There is no such member; there are: {offered}."
                raise ValidationError(
                    {name: [ErrorDetail(sentence, code="unknown")] for name in unknown}
                )
        return super().to_internal_value(data)


def read_body(shape: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    """The validated body of a request; raises ParseError or ValidationError."""
    data = request.data
    if not isinstance(data, Mapping):
        raise ParseError("The body must be a JSON object.")
    serializer = shape(data=data, context={"request": request})
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def read_query(shape: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    """The validated query of a request; `limit` and `cursor` belong to the page, not to the shape.

    A parameter given twice or not in the shape is refused. Raises ValidationError.
    """
    given: dict[str, str] = {}
    for name, values in request.query_params.lists():
        if len(values) > 1:
            raise ValidationError({name: [ErrorDetail("This is given twice.", code="invalid")]})
        if "\x00" in values[0]:
            raise ValidationError({name: [ErrorDetail("NUL characters.", code="invalid")]})
        if name not in {"limit", "cursor"}:
            given[name] = values[0]
    serializer = shape(data=given, context={"request": request})
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


class NoBody(StrictSerializer):
    """An empty object: for verbs that take nothing."""


class NoQuery(StrictSerializer):
    """No query parameters besides those of the page."""


_PAGES: dict[type[serializers.BaseSerializer[Any]], type[serializers.Serializer[Any]]] = {}


def page_of(shape: type[serializers.BaseSerializer[Any]]) -> type[serializers.Serializer[Any]]:
    """The shape of a page of these, for the API's description; the same class every time."""
    if shape in _PAGES:
        return _PAGES[shape]
    members = {
        "data": shape(many=True),
        "has_more": serializers.BooleanField(),
        "next": serializers.CharField(allow_null=True),
    }
    _PAGES[shape] = type(f"{shape.__name__}Page", (serializers.Serializer,), members)
    return _PAGES[shape]
