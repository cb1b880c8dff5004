"""The ASGI callable of the hot paths: reads the request, asks the engine, writes the answer."""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prometheus_client import Counter

from accounts.domain import keys
from metering.gate import answers, authorize, bodies, endpoints, ingest, metrics
from metering.gate.answers import Answer, Header
from metering.gate.bodies import Bodies, Large
from metering.gate.calls import Action
from metering.gate.catalogue import GatewayKey
from metering.gate.endpoints import Caller
from metering.gate.engine import Engine, Overloaded
from metering.gate.quarantine import Quarantine
from metering.gate.store import Unavailable
from metering.gate.wire import Problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
PREFIX = "/api/v1/"
_INGEST = {"events", "events/batch", *(f"ingest/{shape}" for shape in ingest.SHAPES)}
_HOLD = re.compile(r"holds/(?P<id>[^/]{1,80})(?:/(?P<action>settle|release|extend))?")
_OVERLOADED = Problem("overloaded", "Too many calls wait; retry with the same id.")
_UNAVAILABLE = Problem("unavailable", "We cannot decide now; retry with the same id.")
_HEADER_KEPT = 100
_BEGINNINGS = (f"{PREFIX}check", authorize.PATH)
_SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,200}")


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


@dataclass(frozen=True, slots=True)
class GateSettings:
    """How the HTTP side is set up."""

    base_url: str
    deadline_s: float


class Gate:
    """Raw ASGI: no framework, no Django. One engine per process, started on first use."""

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        *,
        settings: GateSettings,
        make_quarantine: Callable[[], Quarantine | None] = lambda: None,
    ) -> None:
        self._make_engine = make_engine
        self._settings = settings
        self._engine: Engine | None = None
        self._make_quarantine = make_quarantine
        self._quarantine: Quarantine | None = None
        self._callers: dict[bytes, bytes] = {}  # Authorization header -> digest, well-formed ones
        self._counters: dict[tuple[str, int], Counter] = {}
        self._id_start = b"req_" + secrets.token_hex(10).encode()
        self._ids = itertools.count()
        refusal = answers.problem(_OVERLOADED, base_url=settings.base_url)
        self._bodies = Bodies()
        self._overloaded = Answer(refusal.status, refusal.encoded(), refusal.headers)

    async def stop(self) -> None:
        """End the engine of this process, if one was started."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.stop()
        if self._quarantine is not None:
            await self._quarantine.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        headers = {name: value for name, value in scope["headers"]}  # noqa: C416  (last one wins)
        sent = headers.get(b"x-request-id", b"")
        request_id = sent if sent and _SANE_ID.fullmatch(sent) else self._new_id()
        started = time.perf_counter()
        large: Large | None = None
        try:
            # An authorization looks at headers only; a forwarded body is none of our business.
            forwarded = scope["path"].startswith(authorize.PATH)
            if self._engine is not None and (
                self._engine.full or (_begins(scope["path"]) and self._engine.room.full)
            ):
                raise Overloaded  # before the body is looked at: refusing must cost little
            body, more = (b"", False) if forwarded else await bodies.begin(receive, headers)
            if more:
                await self._known(headers.get(b"authorization"))  # strangers are not listened to
                large = Large(self._bodies)
                body = await large.read(body, receive)
            started = time.perf_counter()
            answer = await self._answer(scope, headers, body)
        except Problem as refused:
            answer = answers.problem(refused, base_url=self._settings.base_url)
        except Overloaded:
            metrics.OVERLOADED.inc()
            answer = self._overloaded
            await self._await_refusal()
            started = time.perf_counter()  # that took no work
        except Unavailable:
            answer = answers.problem(_UNAVAILABLE, base_url=self._settings.base_url)
        except bodies.Gone:
            return
        finally:
            if large is not None:
                large.release()
        await _send(send, answer, request_id)
        path = scope["path"][len(PREFIX) :].split("/", 1)[0]
        self._count(path, answer.status)
        metrics.ANSWER_TIME.observe(time.perf_counter() - started)

    async def _await_refusal(self) -> None:
        """Return when a refusal may be told."""
        if self._engine is not None:
            pause = self._engine.room.refuse(asyncio.get_running_loop().time())
            if pause > 0:
                await asyncio.sleep(pause)

    def _new_id(self) -> bytes:
        """Unique to this request: the process's own random start, and a count."""
        return b"%s%012x" % (self._id_start, next(self._ids))

    def _count(self, path: str, status: int) -> None:
        counter = self._counters.get((path, status))
        if counter is None:
            counter = self._counters[path, status] = metrics.ANSWERS.labels(path, str(status))
        counter.inc()

    async def _answer(self, scope: Scope, headers: dict[bytes, bytes], body: bytes) -> Answer:
        path: str = scope["path"]
        forwarded = path.startswith(authorize.PATH)
        engine, digest, gateway = await self._known(
            _gateway_key(headers) if forwarded else headers.get(b"authorization")
        )
        caller = Caller(digest, gateway.gateway, self._settings.base_url, self._settings.deadline_s)
        method: str = scope["method"]
        if forwarded:
            return await authorize.authorize(
                engine,
                caller,
                gateway,
                headers,
                method=method,
                suffix=path[len(authorize.PATH) :],
            )
        rest = path[len(PREFIX) :].rstrip("/")
        if rest == "check":
            _only(method, "POST")
            return await endpoints.check(engine, caller, headers, body)
        if rest in _INGEST:
            _only(method, "POST")
            query = scope.get("query_string", b"")
            return await ingest.ingest(
                engine, caller, headers, body, path=rest, query=query, quarantine=self._quarantine
            )
        found = _HOLD.fullmatch(rest)
        if found is None:
            raise Problem("not_found", "There is no such path.")
        action: Action = found["action"] or "read"  # type: ignore[assignment]  # as the pattern says
        _only(method, "GET" if action == "read" else "POST")
        return await endpoints.close_hold(
            engine, caller, headers, body, hold_id=found["id"], action=action
        )

    async def _known(self, header: bytes | None) -> tuple[Engine, bytes, GatewayKey]:
        """The engine, started, and the gateway that asks; raises Problem, Unavailable."""
        engine = self._engine
        if engine is None:
            engine = self._engine = self._make_engine()
            self._quarantine = self._make_quarantine()
            engine.start()
        digest = self._digest(header)
        catalogue = engine.catalogue
        if digest not in catalogue.gateways:
            # Perhaps a new key: the batch compares the catalogue's version and reads it again.
            try:
                async with asyncio.timeout(self._settings.deadline_s):
                    catalogue = await engine.refreshed_catalogue()
            except TimeoutError as error:
                raise Unavailable("the catalogue was not read in time") from error
        return engine, digest, catalogue.caller(digest, now=datetime.now(UTC))

    def _digest(self, header: bytes | None) -> bytes:
        if header is None:
            raise Problem("key_missing", "Send the gateway's key: `Authorization: Bearer fb_gw_…`.")
        known = self._callers.get(header)
        if known is not None:
            return known
        scheme, _, text = header.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            raise Problem("key_missing", "Send the gateway's key: `Authorization: Bearer fb_gw_…`.")
        try:
            kind = keys.parse_key(text.strip())
        except keys.KeyMalformed as error:
            raise Problem("key_malformed", f"{error}.".capitalize()) from error
        if kind is not keys.KeyKind.GATEWAY:
            raise Problem("wrong_kind_of_key", "This path takes a gateway's key, fb_gw_….")
        if len(self._callers) > 10_000:
            self._callers.clear()
        digest = keys.digest_of(text.strip())
        if len(header) <= _HEADER_KEPT:  # nobody fills the memory with spaces around a key
            self._callers[header] = digest
        return digest


def _gateway_key(headers: dict[bytes, bytes]) -> bytes | None:
    """Where /authorize has the gateway's key: Authorization belongs to the end client there."""
    sent = headers.get(b"x-farebox-gateway")
    return None if sent is None else b"Bearer " + sent


def _begins(path: str) -> bool:
    """Whether a request asks for what was not begun: a hold's end and usage are let in."""
    return path.startswith(_BEGINNINGS)


def _only(method: str, allowed: str) -> None:
    if method != allowed:
        raise Problem("method_not_allowed", f"This path takes {allowed}.")


async def _send(send: Send, answer: Answer, request_id: bytes) -> None:
    body = answer.encoded()
    headers: list[Header] = [
        *answer.headers,
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
