"""Form bodies and query strings with Stripe's bracket names, and the answers' JSON."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

Json = dict[str, Any]


def decode(text: str) -> Json:
    """Turn `lines[0][amount]=5&metadata[a]=b` into nested dicts of strings.

    Lists stay dicts keyed by their positions ("0", "1", ...; `name[]` counts up by itself):
    only the shape of a call knows whether `metadata[0]` is a list or a key called "0".
    """
    fields: Json = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        _place(fields, _path(name), value)
    return fields


def encode(body: Json) -> bytes:
    """Serialise an answer as UTF-8 JSON."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def _path(name: str) -> list[str]:
    head, bracket, rest = name.partition("[")
    if not bracket or not rest.endswith("]"):
        return [name]
    return [head, *rest[:-1].split("][")]


def _place(fields: Json, path: list[str], value: str) -> None:
    here = fields
    for step in path[:-1]:
        deeper = here.setdefault(step or str(len(here)), {})
        if not isinstance(deeper, dict):
            deeper = here[step] = {}
        here = deeper
    here[path[-1] or str(len(here))] = value
