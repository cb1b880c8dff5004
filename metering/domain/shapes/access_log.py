"""Lines of an access log in JSON, as nginx, Caddy, Envoy, Traefik and APISIX can write them."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime
from decimal import Decimal
from typing import Final, cast

import msgspec

from metering.domain.meters import QUANTITY_MAX
from metering.domain.shapes.reading import (
    NOTHING,
    Item,
    Options,
    Told,
    decimal_text,
    first_text,
    first_whole,
    missing,
    moment,
    part,
    plain,
    scalars,
)
from metering.domain.shapes.tokens import disjoint

TYPE: Final = "http.request"
ID: Final = ("id", "request_id", "x_request_id", "x-request-id", "req_id")
# Never a header of the request: a client writes there whom it likes.
CUSTOMER: Final = (
    "customer",
    "farebox_customer",
    "x_farebox_customer",
    "x-farebox-customer",
    "consumer",
    "downstream_X-Farebox-Customer",
)
HOLD: Final = ("hold", "farebox_hold", "x_farebox_hold", "x-farebox-hold")
TIME: Final = (
    "time", "time_iso8601", "@timestamp", "timestamp", "ts", "start_time", "StartUTC", "msec",
    "time_local",
)  # fmt: skip
STATUS: Final = ("status", "response_code", "DownstreamStatus", "status_code")
METHOD: Final = ("method", "request_method", "RequestMethod")
PATH: Final = ("path", "uri", "request_uri", "RequestPath", "x-envoy-origin-path", ":path")
HOST: Final = ("host", "authority", ":authority", "RequestHost", "http_host")
ROUTE: Final = ("route", "route_name", "RouterName")
SERVER: Final = ("upstream_cluster", "ServiceName")
BYTES_OUT: Final = (
    "bytes", "body_bytes_sent", "bytes_sent", "size", "DownstreamContentSize", "response_bytes",
)  # fmt: skip
BYTES_IN: Final = (
    "request_bytes", "request_length", "bytes_received", "bytes_read", "RequestContentSize",
)  # fmt: skip
MODEL: Final = ("model", "llm_model", "gen_ai.request.model")
PROMPT: Final = ("llm_prompt_tokens", "prompt_tokens", "gen_ai.usage.input_tokens")
COMPLETION: Final = ("llm_completion_tokens", "completion_tokens", "gen_ai.usage.output_tokens")
CACHE_READ: Final = (
    "llm_cache_read_input_tokens", "cached_tokens", "gen_ai.usage.cache_read.input_tokens",
)  # fmt: skip
CACHE_WRITE: Final = (
    "llm_cache_creation_input_tokens", "cache_write_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
)  # fmt: skip
REASONING: Final = (
    "llm_reasoning_tokens", "reasoning_tokens", "gen_ai.usage.reasoning.output_tokens",
)  # fmt: skip
DURATION: Final = ("Duration", "duration_ms", "ms", "request_time", "duration")
_FINE: Final = re.compile(r"\.[0-9]{3}")
_LINE_MEMBERS: Final = ("log", "message")


def translate(item: Item, options: Options) -> Told | None:
    """One request; None for one that was nobody's: its customer is there, but empty or `-`.

    A line without an id is told apart by all it says, if its time is finer than a second. The
    query of the path is not kept, and no header is.
    """
    line = unwrapped(item)
    request = part(line, "request")  # Caddy's
    both: dict[str, object] = {**request, **line}
    names = CUSTOMER if options.customer is None else (options.customer,)
    if not any(name in line for name in names):
        raise missing(names[0], f"the line does not say whose request it was: no {names[0]}")
    subject = first_text(line, *names)
    if not subject:
        return None
    data = _properties(both)
    hold = first_text(line, *HOLD)
    if hold:
        data["hold"] = hold
    return Told(
        id=first_text(line, *ID) or told_apart(line),
        subject=subject,
        type=options.type or TYPE,
        occurred_at=_moment(line),
        data=data,
    )


def unwrapped(item: Item) -> Item:
    """The line itself, where a log shipper has put it as a text into an object of its own."""
    for name in _LINE_MEMBERS:
        wrapped = item.get(name)
        if isinstance(wrapped, str) and wrapped.lstrip().startswith("{"):
            try:
                found = msgspec.json.decode(wrapped)
            except (ValueError, RecursionError):  # of msgspec too, and what no UTF-8 can say
                continue
            return cast("Item", found)
    return item


def _when(line: Item) -> str:
    """The member that says when it was."""
    return next((name for name in TIME if line.get(name) not in (None, *NOTHING)), TIME[0])


def _moment(line: Item) -> datetime | None:
    when = _when(line)
    return moment(line.get(when), param=when)


def told_apart(line: Item) -> str:
    """An id for a line without one; raises ShapeInvalid where two lines could be the same."""
    if not _FINE.search(str(line.get(_when(line)))):
        raise missing("request_id", "the line has no request_id, nor a time finer than a second")
    written = json.dumps(line, sort_keys=True, default=str).encode("utf-8", "replace")
    return f"line:{hashlib.blake2b(written, digest_size=16).hexdigest()}"


def _properties(line: Item) -> dict[str, object]:
    data: dict[str, object] = {}
    named: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("method", METHOD), ("host", HOST), ("route", ROUTE), ("server", SERVER), ("model", MODEL),
    )  # fmt: skip
    for ours, names in named:
        found = first_text(line, *names)
        if found:
            data[ours] = found
    path = first_text(line, *PATH).partition("?")[0]
    if path:
        data["path"] = path
    status = first_whole(line, *STATUS)
    if status is not None:
        data |= {"status": status, "status_class": f"{status // 100}xx"}
    for ours, names in (("response_bytes", BYTES_OUT), ("request_bytes", BYTES_IN)):
        size = first_whole(line, *names)
        if size is not None:
            data[ours] = size
    taken = _duration_ms(line)
    if taken is not None:
        data["duration_ms"] = taken
    data |= _tokens(line)
    more = part(line, "properties")
    return {name: plain(value) for name, value in scalars(more, {n: n for n in more})} | data


def _tokens(line: Item) -> dict[str, object]:
    counted = {
        "prompt": first_whole(line, *PROMPT),
        "completion": first_whole(line, *COMPLETION),
        "cache_read": first_whole(line, *CACHE_READ),
        "cache_write": first_whole(line, *CACHE_WRITE),
        "reasoning": first_whole(line, *REASONING),
    }
    if all(value is None for value in counted.values()):
        return {}
    return disjoint(**counted)


def _duration_ms(line: Item) -> int | None:
    """Milliseconds, rounded down: of Traefik's nanoseconds, nginx's or Caddy's seconds, or as such.

    `duration` is Caddy's, which writes response headers beside it, or Envoy's.
    """
    nanoseconds = first_whole(line, "Duration")
    if nanoseconds is not None:
        return nanoseconds // 1_000_000
    seconds = 1_000
    scales = {
        "duration_ms": 1,
        "ms": 1,
        "request_time": seconds,
        "duration": seconds if "resp_headers" in line else 1,
    }
    for name, scale in scales.items():
        number = decimal_text(line.get(name))
        if number is not None:
            return min(max(int(Decimal(number) * scale), 0), QUANTITY_MAX)
    return None
