"""ANY /authorize: for gateways that can only forward a request and look at the answer.

Allow is exactly 200 with an empty body and every identity header, empty ones included, so that
nothing a client sent under these names gets through. A denial is the problem itself. What the
gateway itself gets wrong is 503, because its client did nothing wrong. Two dialects
for nginx, whose auth_request knows no 402: `/authorize/nginx` answers every user error as 403 and
puts the truth into headers; `/authorize/nginx-accel` hands an allowed request on by
X-Accel-Redirect.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast
from urllib.parse import quote, unquote

import msgspec

from accounts.domain import keys
from metering.domain.meters import QUANTITY_MAX
from metering.gate import answers, misconfigured
from metering.gate.answers import AllowedBody, Answer, Header, HoldBody
from metering.gate.calls import Call, Check
from metering.gate.catalogue import GatewayKey, Route
from metering.gate.endpoints import Caller, Single, answer_of, by_key, event_key
from metering.gate.engine import Engine
from metering.gate.wire import FAULT, UNAVAILABLE, CheckBody, Mode, Problem, asked_items

PATH = "/api/v1/authorize"
VERSION: Header = (b"x-farebox", b"authorize/1")
_MODES = ("peek", "consume", "hold")
_IDENTITY = (b"x-farebox-customer", b"x-farebox-decision", b"x-farebox-plan", b"x-farebox-hold")
_NO_VALUE: Header = (b"x-farebox-value", b"")
_USER_ERRORS = range(400, 500)
_OURS = keys.KeyKind.CUSTOMER.value
_PLAIN = "!#$&'()*+,-./:;<=>?@[]^_`{|}~"  # of a value in a header; all else is percent-encoded
_SLASH = re.compile("%2f", re.IGNORECASE)
_ID_SHOWN = 255  # characters of an id that are kept to be read; all of it tells it from others
_SHOWN = 200  # characters of a path: a problem goes into a header, of which proxies take 4 kB


@dataclass(frozen=True, slots=True)
class Forwarded:
    """The end client's request as the gateway describes it.

    `path`: decoded, but for its encoded slashes; `decoded`: with them, where it has any.
    """

    method: str
    path: str
    decoded: str | None


def authorize(
    engine: Engine,
    caller: Caller,
    gateway: GatewayKey,
    headers: Mapping[bytes, bytes],
    *,
    method: str,
    suffix: str,
) -> Single | Answer:
    """A forwarded request as a check, or why it is none; `suffix`: what follows /authorize.

    Raises Problem where the gateway asks wrongly.
    """
    suffix, accel = _without(suffix, "/nginx-accel")
    suffix, nginx = (suffix, False) if accel else _without(suffix, "/nginx")
    try:
        call = _call(
            engine, caller, gateway, headers, forwarded=_forwarded(headers, method, suffix)
        )
    except Problem as refused:
        if misconfigured.is_gateways(refused):
            raise
        return _deny(answers.problem(refused, base_url=caller.base_url), as_403=nginx)
    return Single(call, caller, _told_by_accel if accel else _told_nginx if nginx else _told)


def _told(call: Call, caller: Caller, *, accel: bool = False, as_403: bool = False) -> Answer:
    failure = call.failure
    if failure is not None and misconfigured.is_gateways(failure):
        return misconfiguration(failure, gateway=caller.gateway, base_url=caller.base_url)
    answer = answer_of(call, caller)
    if answer.status == 200:
        return _allow(answer, accel=accel)
    if answer.status == FAULT.status:  # it would be shown to an end client
        answer = answers.problem(UNAVAILABLE, base_url=caller.base_url)
    return _deny(answer, as_403=as_403)


def misconfiguration(refused: Problem, *, gateway: str, base_url: str) -> Answer:
    """What a gateway is answered that asks wrongly, in every dialect; "": no known one."""
    return misconfigured.answer(
        refused, gateway=gateway, base_url=base_url, instance=PATH, header=VERSION
    )


_told_nginx = partial(_told, as_403=True)
_told_by_accel = partial(_told, accel=True)


def _call(
    engine: Engine,
    caller: Caller,
    gateway: GatewayKey,
    headers: Mapping[bytes, bytes],
    *,
    forwarded: Forwarded,
) -> Check:
    meter, quantity, mode = _wanted(engine, gateway, headers, forwarded)
    id_: str | None = None
    if mode != "peek":
        id_ = headers.get(b"x-request-id", b"").decode("latin-1")
        if not id_:
            raise Problem(
                "parameter_missing",
                f"mode {mode} needs an id: have the gateway send its own X-Request-Id.",
                param="X-Request-Id",
            )
    body = CheckBody(meter=meter, quantity=quantity, mode=mode, id=id_ and id_[:_ID_SHOWN])
    return Check(
        gateway_key=caller.digest,
        reference=by_key(_credential(headers)),
        deadline=time.monotonic() + caller.deadline_s,
        body=body,
        asked=asked_items(body),
        key=event_key(caller.gateway, id_) if id_ else None,
        source=caller.gateway,
    )


def _wanted(
    engine: Engine, gateway: GatewayKey, headers: Mapping[bytes, bytes], forwarded: Forwarded
) -> tuple[str, int | None, Mode]:
    """Meter, quantity and mode: from headers where the gateway sends them, else from its routes."""
    meter = headers.get(b"x-farebox-meter", b"").decode("latin-1")
    if meter:
        if len(meter) > _SHOWN:
            raise Problem("parameter_invalid", "That is too long.", param="X-Farebox-Meter")
        return meter, _quantity(headers), _mode(headers)
    routes = engine.catalogue.routes.get(gateway.gateway_id, ())
    method, path = forwarded.method, forwarded.path
    route, decoded = _route(routes, method, path), forwarded.decoded
    agreed = decoded is None or _route(routes, method, decoded) is route
    if route is not None and agreed:
        return route.meter, route.quantity, cast("Mode", route.mode)
    shown = f"{method[:_SHOWN]} {path[:_SHOWN]}"
    if not agreed:
        raise Problem(
            "route_unknown",
            f"{shown} can be read in two ways, which are two routes.",
            param="path",
        )
    raise Problem("route_unknown", f"The gateway {gateway.gateway!r} has no route for {shown}.")


def _route(routes: Sequence[Route], method: str, path: str) -> Route | None:
    for each in routes:
        if each.matches(method, path):
            return each
    return None


def _quantity(headers: Mapping[bytes, bytes]) -> int | None:
    text = headers.get(b"x-farebox-quantity", b"").decode("latin-1")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= QUANTITY_MAX):
        raise Problem("quantity_invalid", "Not a whole number.", param="X-Farebox-Quantity")
    return int(text)


def _mode(headers: Mapping[bytes, bytes]) -> Mode:
    text = headers.get(b"x-farebox-mode", b"").decode("latin-1") or "peek"
    if text not in _MODES:
        raise Problem("parameter_invalid", "Use peek, consume or hold.", param="X-Farebox-Mode")
    return cast("Mode", text)


def _credential(headers: Mapping[bytes, bytes]) -> str:
    """The end client's key, where clients of APIs put it; ours before one of somebody else."""
    scheme, _, text = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    first = text.strip() if scheme.lower() == "bearer" else ""
    if first.startswith(_OURS):
        return first
    for name in (b"x-api-key", b"api-key"):
        if headers.get(name):
            sent = headers[name].decode("latin-1").strip()
            if sent.startswith(_OURS):
                return sent
            first = first or sent
    if not first:
        raise Problem(
            "key_missing", "Send your API key: `Authorization: Bearer fb_key_…`.", param="key"
        )
    return first


def _forwarded(headers: Mapping[bytes, bytes], method: str, suffix: str) -> Forwarded:
    for name in (b"x-forwarded-method", b"x-original-method"):
        if headers.get(name):
            method = headers[name].decode("latin-1")
            break
    path = suffix or "/"
    for name in (b"x-forwarded-uri", b"x-original-uri"):
        if headers.get(name):
            path = headers[name].decode("latin-1").partition("?")[0]
            break
    if "%" not in path:
        return Forwarded(method.upper(), _resolved(path), None)
    # Some upstreams decode a slash and others do not: which of the two paths it is nobody knows.
    kept, slashes = _SLASH.subn("%252F", path)
    decoded = _resolved(unquote(path)) if slashes else None
    return Forwarded(method.upper(), _resolved(unquote(kept)), decoded)


def _resolved(path: str) -> str:
    """The path as an upstream understands it, so that another spelling takes no other route."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    is_folder = bool(parts) and path.rsplit("/", 1)[-1] in ("", ".", "..")
    return "/" + "/".join(parts) + ("/" if is_folder else "")


def _allow(answer: Answer, *, accel: bool) -> Answer:
    known, value = dict(answer.headers), _NO_VALUE
    if isinstance(answer.body, AllowedBody):
        known[b"x-farebox-plan"] = answer.body.plan.encode("ascii", "replace")
        if isinstance(answer.body.hold, HoldBody):
            known[b"x-farebox-hold"] = answer.body.hold.id.encode()
        if isinstance(answer.body.value, str):
            value = (b"x-farebox-value", quote(answer.body.value, safe=_PLAIN).encode())
    headers: list[Header] = [VERSION]
    headers += [(name, known.get(name, b"")) for name in _IDENTITY]
    headers.append(value)
    kept = (b"ratelimit", b"ratelimit-policy", b"farebox-replayed")
    headers += [(name, known[name]) for name in kept if name in known]
    if accel:
        headers.append((b"x-accel-redirect", b"@upstream"))
    return Answer(200, None, tuple(headers))


def _deny(answer: Answer, *, as_403: bool) -> Answer:
    answer = answers.about(answer, PATH)  # before it goes into a header
    headers = (*answer.headers, VERSION)
    if not as_403 or answer.status not in _USER_ERRORS:
        return Answer(answer.status, answer.body, headers)
    status = str(answer.status).encode()
    headers += ((b"x-farebox-status", status), (b"x-farebox-problem", _in_a_header(answer)))
    return Answer(403, answer.body, headers)


def _in_a_header(answer: Answer) -> bytes:
    """The body as JSON of printable ASCII: a path in it may have any character."""
    line = answer.encoded()
    if line.isascii() and b"\x7f" not in line:
        return line
    return json.dumps(msgspec.json.decode(line), separators=(",", ":")).encode()


def _without(path: str, prefix: str) -> tuple[str, bool]:
    if path == prefix or path.startswith(prefix + "/"):
        return path[len(prefix) :], True
    return path, False
