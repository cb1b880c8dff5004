"""What the load sends: the bytes of each kind of request, prepared as far as they can be.

A request differs from the one before by a customer's key and a number in the id, so everything
else is made once; batches are built before the clock starts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

METER = "bench.calls"
EVENT_TYPE = "bench.call"
TOKENS, TOKENS_TYPE = "bench.tokens", "bench.llm"
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5")
_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Asked:
    """What is sent. `kind`: consume, hold, peek, events, llm (events with data of a call to a
    model), or raw with a `body` of its own.

    `items`: how many checks or events one request has, 0 for a request that is one itself.
    """

    kind: str
    path: str
    gateway_key: str
    keys: list[str]
    prefix: str
    items: int = 0
    body: str = ""

    @property
    def reports(self) -> bool:
        """Whether it is events."""
        return self.kind in ("events", "llm")


def requests(asked: Asked, *, prepared: int = 0) -> Iterator[bytes]:
    """Requests without end, each with ids of its own; `prepared` of the batches are made now."""
    if asked.items:
        return _batches(asked, prepared=prepared)
    return _singles(asked)


def settle(asked: Asked, hold: bytes) -> bytes:
    """The request that settles a hold."""
    path = f"/api/v1/holds/{hold.decode()}/settle"
    body = b'{"quantity":1}'
    return _head(path, asked.gateway_key, len(body)) + body


def _singles(asked: Asked) -> Iterator[bytes]:
    starts, end = _starts(asked)
    numbered = end.startswith(b"%")
    length = len(end % 0) if numbered else len(end)
    heads = [_head(asked.path, asked.gateway_key, len(start) + length) + start for start in starts]
    number, customers = 0, len(heads)
    while True:
        head = heads[number % customers]
        yield head + end % number if numbered else head + end
        number += 1


def _batches(asked: Asked, *, prepared: int) -> Iterator[bytes]:
    starts, end = _starts(asked)
    build = _builder(asked, starts, end)
    ready = [build(number) for number in range(prepared)]
    number = len(ready)
    yield from ready
    while True:
        yield build(number)
        number += 1


def _builder(asked: Asked, starts: list[bytes], end: bytes) -> Callable[[int], bytes]:
    opening, closing = (b"[", b"]") if asked.reports else (b'{"checks":[', b"]}")
    items, customers = asked.items, len(starts)
    numbered = end.startswith(b"%")

    def build(batch: int) -> bytes:
        numbers = range(batch * items, (batch + 1) * items)
        parts = [starts[n % customers] + (end % n if numbered else end) for n in numbers]
        body = opening + b",".join(parts) + closing
        return _head(asked.path, asked.gateway_key, len(body)) + body

    return build


def _starts(asked: Asked) -> tuple[list[bytes], bytes]:
    """What each customer's request begins with, and how it ends: with a number of fixed width."""
    numbered = b"%%0%dd" % _DIGITS
    match asked.kind:
        case "raw":
            return [asked.body.encode()], b""
        case "events":
            opened = [_event(asked, key, EVENT_TYPE, "{}") for key in asked.keys]
            return [each.encode() for each in opened], numbered + b'"}'
        case "llm":
            numbers = enumerate(asked.keys)
            opened = [_event(asked, key, TOKENS_TYPE, _llm_data(number)) for number, key in numbers]
            return [each.encode() for each in opened], numbered + b'"}'
        case "peek":
            return [(_check(key, "peek") + "}").encode() for key in asked.keys], b""
        case _:
            opened = [_check(key, asked.kind) + f',"id":"{asked.prefix}-' for key in asked.keys]
            return [each.encode() for each in opened], numbered + b'"}'


def _event(asked: Asked, key: str, type_: str, data: str) -> str:
    opening = f'{{"specversion":"1.0","source":"bench","type":"{type_}","data":{data},'
    return f'{opening}"subject":"{key}","id":"{asked.prefix}-'


def _llm_data(number: int) -> str:
    """What a gateway tells of a call to a model."""
    asked, answered = 200 + number * 37 % 3_000, 50 + number * 13 % 900
    return json.dumps(
        {
            "model": MODELS[number % len(MODELS)],
            "provider": "openai",
            "input_tokens": asked,
            "output_tokens": answered,
            "tokens": asked + answered,
            "user": f"user-{number % 1_000}",
            "stream": True,
        },
        separators=(",", ":"),
    )


def _check(key: str, mode: str) -> str:
    return f'{{"key":"{key}","meter":"{METER}","quantity":1,"mode":"{mode}"'


def _head(path: str, key: str, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()
