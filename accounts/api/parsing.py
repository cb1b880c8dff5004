"""Reading bodies: UTF-8 JSON of a bounded size, nothing that the database could not keep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ErrorDetail, ParseError, ValidationError
from rest_framework.parsers import BaseParser

BODY_MAX = 1_048_576
DEPTH_MAX = 32


class BodyTooLarge(Exception):
    """The body is larger than this path takes."""


class JSONBody(BaseParser):
    """JSON as RFC 8259 has it: UTF-8, no NaN, no member twice, no NUL, no half of a pair."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,  # noqa: ARG002
        parser_context: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> Any:
        """Return the value; raises ParseError, or ValidationError naming the place."""
        return parse_json(stream.read())


def parse_json(raw: bytes) -> Any:
    """Return the value of a JSON text; raises ParseError, or ValidationError naming the place."""
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant
        )
    except UnicodeDecodeError as error:
        raise ParseError(f"The body is not UTF-8 at byte {error.start}.") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ParseError(f"The body is not JSON: {error.msg} at {place}.") from error
    except (ValueError, RecursionError) as error:
        raise ParseError("The body has a number too long or is nested too deeply.") from error
    problem = _unkeepable(value, 0)
    if problem is not None:
        path, sentence = problem
        raise ValidationError({"".join(path).lstrip("."): [ErrorDetail(sentence, code="invalid")]})
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ParseError(f"The member {twice[:100]!r} occurs twice.")
    return made


def _no_constant(name: str) -> Any:
    raise ParseError(f"{name} is not JSON.")


def _unkeepable(value: Any, depth: int) -> tuple[list[str], str] | None:
    """The path to the first text or depth that PostgreSQL could not keep, and why."""
    if depth > DEPTH_MAX:
        return [], f"Nested more than {DEPTH_MAX} deep."
    match value:
        case str():
            return _unkeepable_text(value)
        case dict():
            members = ((f".{name}", name, each) for name, each in value.items())
            return _first(members, depth)
        case list():
            items = ((f"[{index}]", "", each) for index, each in enumerate(value))
            return _first(items, depth)
        case _:
            return None


def _first(parts: Any, depth: int) -> tuple[list[str], str] | None:
    for step, name, each in parts:
        named = _unkeepable_text(name)
        if named is not None:
            return named
        found = _unkeepable(each, depth + 1)
        if found is not None:
            return [step, *found[0]], found[1]
    return None


def _unkeepable_text(text: str) -> tuple[list[str], str] | None:
    if "\x00" in text:
        return [], "A text may not contain NUL characters."
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return [], "A text may not contain half of a surrogate pair."
    return None
