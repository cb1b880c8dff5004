"""Which requests are the gate's, and what each of them asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

from metering.gate import answers, authorize, endpoints, ingest
from metering.gate.answers import Answer, Header
from metering.gate.calls import Action
from metering.gate.catalogue import GatewayKey
from metering.gate.endpoints import Caller, Checks, Single
from metering.gate.engine import Engine
from metering.gate.wire import Problem

PREFIX = "/api/v1/"
CHECK, EVENTS = endpoints.PATH, f"{PREFIX}events"
_NAMES = {CHECK: "check", EVENTS: "events"}
_INGEST = {"events", "events/batch", *(f"ingest/{shape}" for shape in ingest.SHAPES)}
_HOLD = re.compile(r"holds/(?P<id>[^/]{1,80})(?:/(?P<action>settle|release|extend))?")
_BEGINNINGS = (CHECK, authorize.PATH)
_FORWARDED = authorize.PATH.encode()
_SINGLES = tuple(f"{PREFIX}{rest}".encode() for rest in ("check", "holds/", "events"))


def is_hot(method: str, path: str) -> bool:
    """Whether a request is the gate's; all others are Django's."""
    if not path.startswith(PREFIX):
        return False
    rest = path[len(PREFIX) :]
    return (
        rest in ("check", "check/", "authorize")
        or rest.startswith(("holds/", "authorize/", "ingest/"))
        or (method == "POST" and rest.rstrip("/") in ("events", "events/batch"))
    )


def may_be_single(method: bytes, target: bytes, headers: Sequence[Header]) -> bool:
    """Whether a request may be one of a single call, and is worth having whole first."""
    if method == b"HEAD":
        return False
    if target.startswith(_SINGLES):
        return True
    # The body of a forwarded request is none of our business, so it is not waited for.
    return target.startswith(_FORWARDED) and not any(
        name == b"transfer-encoding" or (name == b"content-length" and value not in (b"0", b""))
        for name, value in headers
    )


class Place(NamedTuple):
    """What a request's line says of it, where its target is a path and nothing else."""

    method: str
    path: str
    begins: bool
    forwarded: bool


def place(method: bytes, target: bytes) -> Place | None:
    """Where a request of the gate goes; None for others, and where the target is not plain."""
    return _PLACES.get((method, target)) or _place(method, target)


def _place(method: bytes, target: bytes) -> Place | None:
    if not target.isascii() or b"?" in target or b"%" in target:
        return None
    verb, path = method.decode(), target.decode()
    if not is_hot(verb, path):
        return None
    return Place(verb, path, begins(path), path.startswith(authorize.PATH))


def name_of(path: str) -> str:
    """How answers to a path are counted: by the first part of it, because ids have no end."""
    return _NAMES.get(path) or path[len(PREFIX) :].split("/", 1)[0]


def as_sent(path: str, raw: bytes | None) -> str:
    """The path of a forwarded request before it was decoded: an end client's is in it."""
    sent = (raw or b"").decode("latin-1")
    return sent if sent.startswith(authorize.PATH) else quote(path)


def instance_of(path: str) -> str:
    """What a problem is about that says nothing nearer: its path, without an end client's."""
    return authorize.PATH if path.startswith(authorize.PATH) else answers.instance_of(path)


def begins(path: str) -> bool:
    """Whether a request asks for what was not begun: a hold's end and usage are let in."""
    return path.startswith(_BEGINNINGS)


def gateway_key(path: str, headers: Mapping[bytes, bytes]) -> bytes | None:
    """The gateway's own credential, as `Authorization` has it."""
    if not path.startswith(authorize.PATH):
        return headers.get(b"authorization")
    sent = headers.get(b"x-farebox-gateway")  # Authorization belongs to the end client there
    return None if sent is None else b"Bearer " + sent


def asked(
    engine: Engine,
    caller: Caller,
    gateway: GatewayKey,
    headers: Mapping[bytes, bytes],
    body: bytes,
    *,
    method: str,
    path: str,
) -> Single | Checks | str | Answer:
    """What a hot request asks for: one call, checks, or usage to be taken in by that path.

    `path` is decoded, and a forwarded one as it was sent. Raises Problem where it asks wrongly; a
    forwarded request has its refusal in a dialect.
    """
    if path.startswith(authorize.PATH):
        suffix = path[len(authorize.PATH) :]
        return authorize.authorize(engine, caller, gateway, headers, method=method, suffix=suffix)
    rest = path[len(PREFIX) :].rstrip("/")
    if rest == "check":
        _only(method, "POST")
        return endpoints.check(caller, headers, body)
    if rest in _INGEST:
        _only(method, "POST")
        return rest
    found = _HOLD.fullmatch(rest)
    if found is None:
        raise Problem("not_found", "There is no such path.")
    action: Action = found["action"] or "read"  # type: ignore[assignment]  # as the pattern says
    _only(method, "GET" if action == "read" else "POST")
    return endpoints.close_hold(caller, headers, body, hold_id=found["id"], action=action)


def _only(method: str, allowed: str) -> None:
    if method != allowed:
        raise Problem("method_not_allowed", f"This path takes {allowed}.", allow=allowed)


_PLACES = {(b"POST", path.encode()): _place(b"POST", path.encode()) for path in (CHECK, EVENTS)}
