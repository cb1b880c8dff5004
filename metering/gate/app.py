"""The ASGI callable of the hot paths: reads the request, asks the engine, writes the answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client import Counter

from accounts.domain import keys
from metering.gate import (
    answers,
    authorize,
    bodies,
    endpoints,
    ingest,
    metrics,
    reporting,
    routing,
    strangers,
)
from metering.gate.answers import Answer, Header
from metering.gate.bodies import Bodies, Large
from metering.gate.calls import Check, Waiter
from metering.gate.catalogue import GatewayKey
from metering.gate.endpoints import Caller, Single
from metering.gate.engine import Engine, Overloaded
from metering.gate.fault_notes import FaultNotes
from metering.gate.misconfigured import Misconfigured
from metering.gate.quarantine import Quarantine
from metering.gate.request_ids import NAME, RequestIds
from metering.gate.room import Room
from metering.gate.store import Unavailable
from metering.gate.strangers import Strangers
from metering.gate.wire import FAULT, UNAVAILABLE, Problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Reply = Callable[[int, Sequence[Header], bytes], None]  # sends the answer of one request, once
log = logging.getLogger(__name__)
_OVERLOADED = Problem("overloaded", "Too many calls wait; retry with the same id.")
_HEADER_KEPT = 100
_FEW_BYTES = 2_048  # of a body with few items: a check takes a hundred and more
_MANY_BYTES = 4_096  # a body of more is judged unread: to read it costs more than to refuse it


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
        make_notes: Callable[[], FaultNotes | None] = lambda: None,
    ) -> None:
        self._make_engine = make_engine
        self._settings = settings
        self._engine: Engine | None = None
        self._strangers: Strangers  # made with the engine
        self._make_quarantine = make_quarantine
        self._quarantine: Quarantine | None = None
        self._make_notes = make_notes
        self._notes: FaultNotes | None = None  # of gateways that ask wrongly
        self._callers: dict[bytes, bytes] = {}  # Authorization header -> digest, well-formed ones
        self._known_callers: dict[bytes, Caller] = {}
        self._counters: dict[tuple[str, int], Counter] = {}
        self._ids = RequestIds()
        self._bodies = Bodies()
        self._overloaded = answers.problem(_OVERLOADED, base_url=settings.base_url)
        self._refusal = self._overloaded.encoded().removesuffix(b"}")  # there are many of it

    async def stop(self) -> None:
        """End the engine of this process, if one was started."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await self._strangers.stop()
            await engine.stop()
        if self._quarantine is not None:
            await self._quarantine.close()
        if self._notes is not None:
            await self._notes.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        headers = {name: value for name, value in scope["headers"]}  # noqa: C416  (last one wins)
        request_id = self._ids.of(headers)
        started = time.perf_counter()
        large: Large | None = None
        try:
            # An authorization looks at headers only; a forwarded body is none of our business.
            forwarded = scope["path"].startswith(authorize.PATH)
            if self._engine is not None:  # before the body is looked at: refusing must cost little
                _let_in(self._engine, scope["path"], headers)
            body, more = (b"", False) if forwarded else await bodies.begin(receive, headers)
            if more:
                await self._known(headers.get(b"authorization"))  # strangers are not listened to
                large = Large(self._bodies)
                body = await large.read(body, receive)
            started = time.perf_counter()
            answer = await self._answer(scope, headers, body)
        except Problem as refused:
            answer = self._refused(refused, headers, scope["path"])
        except Overloaded as overloaded:
            metrics.OVERLOADED.inc()
            answer = self._too_many(scope["path"])
            await self._await_refusal(overloaded.room, large=large is not None)
            started = time.perf_counter()  # that took no work
        except Unavailable:
            answer = answers.problem(UNAVAILABLE, base_url=self._settings.base_url)
        except bodies.Gone:
            return
        except Exception:
            log.exception("a request could not be answered")
            answer = self.fault(scope["path"])
        finally:
            if large is not None:
                large.release()
        await _send(send, self.told(answer, scope["path"]), request_id)
        self.count(scope["path"], answer.status, time.perf_counter() - started)

    def wants(self, method: bytes, target: bytes, headers: Sequence[Header]) -> bool:
        """Whether a request may be one that `take` takes."""
        return routing.may_be_single(method, target, headers)

    def take(
        self,
        method: bytes,
        target: bytes,
        headers: Sequence[Header],
        body: bytes,
        reply: Reply,
    ) -> bool:
        """Decide a request of a single call without ASGI; see config.shortcut.

        It is for what most requests are, and for what costs least when there are too many: whatever
        asks wrongly, is a batch, or needs to be waited for, is left to `__call__`.
        """
        started = time.perf_counter()
        engine, place = self._engine, routing.place(method, target)
        if engine is None or place is None or endpoints.CHECKS in body:
            return False
        verb, path, begins, forwarded = place
        fields = dict(headers)
        if engine.is_full(of_many=False) or (begins and engine.room.full):
            self._refuse(engine, reply, path, self._ids.of(fields))
            return True
        sent = routing.gateway_key(path, fields) if forwarded else fields.get(b"authorization")
        digest = self._callers.get(sent or b"")
        gateway = None if digest is None else engine.catalogue.gateways.get(digest)
        if digest is None or gateway is None:
            return False
        caller = self._caller(digest, gateway)
        try:
            one: object
            if path == routing.CHECK and verb == "POST":
                one = endpoints.check(caller, fields, body)
            elif path == routing.EVENTS:
                one = None if self._quarantine else reporting.one_event(caller, fields, body)
            else:
                if forwarded:  # that its gateway may not ask is in no dialect
                    engine.catalogue.caller(digest, now=datetime.now(UTC))
                one = routing.asked(engine, caller, gateway, fields, body, method=verb, path=path)
            if not isinstance(one, Single):
                return False
            call = one.call
            id_ = self._ids.of(fields)
            taken = _Taken(self, one, reply, path=path, request_id=id_, started=started)
            engine.submit((call,))
        except (Problem, Overloaded):
            return False
        call.waiter = taken  # nothing is decided before this returns
        if isinstance(call, Check):
            taken.room = engine.room
            taken.room.enter(call.since)
        return True

    def _refuse(self, engine: Engine, reply: Reply, path: str, request_id: bytes) -> None:
        """Tell that too much waits, when a refusal may be told."""
        answer = self._too_many(path)
        metrics.OVERLOADED.inc()
        self.count(path, answer.status, 0.0)  # that took no work
        headers = (*answer.headers, (NAME, request_id))
        pause = engine.room.refuse(time.monotonic())
        if pause > 0:
            asyncio.get_running_loop().call_later(
                pause, reply, answer.status, headers, answer.encoded()
            )
        else:
            reply(answer.status, headers, answer.encoded())

    async def _await_refusal(self, room: Room | None, *, large: bool) -> None:
        """Return when a refusal may be told; the room that is full knows of it then."""
        if (engine := self._engine) is not None:
            room = room or (engine.batches if large else engine.room)
            pause = room.refuse(time.monotonic())
            if pause > 0:
                await asyncio.sleep(pause)

    def _too_many(self, path: str) -> Answer:
        """The refusal of a request for which there is no room."""
        instance = routing.instance_of(path).encode()
        body = b'%s,"instance":"%s"}' % (self._refusal, instance)
        return Answer(self._overloaded.status, body, self._overloaded.headers)

    def _refused(self, refused: Problem, headers: dict[bytes, bytes], path: str) -> Answer:
        """The answer to a request that asks wrongly; of a forwarded one the gateway does."""
        base_url, engine = self._settings.base_url, self._engine
        if engine is None or not path.startswith(authorize.PATH):
            return answers.problem(refused, base_url=base_url)
        digest = self._callers.get(routing.gateway_key(path, headers) or b"", b"")
        known = engine.catalogue.gateways.get(digest)
        name = known.gateway if known else ""
        return authorize.misconfiguration(refused, gateway=name, base_url=base_url)

    def told(self, answer: Answer, path: str) -> Answer:
        """An answer as it is sent: a problem says what it is about, a gateway's fault is noted."""
        if answer.status < 400:
            return answer
        if self._notes is not None and isinstance(answer, Misconfigured):
            self._notes.note(answer)
        return answers.about(answer, routing.instance_of(path))

    def fault(self, path: str) -> Answer:
        """What is answered where something is wrong on our side; an end client has it as 503."""
        refused = UNAVAILABLE if path.startswith(authorize.PATH) else FAULT
        return self.told(answers.problem(refused, base_url=self._settings.base_url), path)

    def count(self, path: str, status: int, took_s: float) -> None:
        """Count an answer."""
        name = routing.name_of(path)
        counter = self._counters.get((name, status))
        if counter is None:
            counter = self._counters[name, status] = metrics.ANSWERS.labels(name, str(status))
        counter.inc()
        metrics.ANSWER_TIME.observe(took_s)

    async def _answer(self, scope: Scope, headers: dict[bytes, bytes], body: bytes) -> Answer:
        path: str = scope["path"]
        engine, digest, gateway = await self._known(routing.gateway_key(path, headers))
        caller = self._caller(digest, gateway)
        if path.startswith(authorize.PATH):
            path = routing.as_sent(path, scope.get("raw_path"))
        asked = routing.asked(
            engine, caller, gateway, headers, body, method=scope["method"], path=path
        )
        if isinstance(asked, Answer):
            return asked
        if isinstance(asked, Single):
            return await endpoints.answered(engine, asked)
        if isinstance(asked, str):
            query = scope.get("query_string", b"")
            return await ingest.ingest(
                engine, caller, headers, body, path=asked, query=query, quarantine=self._quarantine
            )
        return await endpoints.check_batch(engine, caller, asked)

    def _caller(self, digest: bytes, gateway: GatewayKey) -> Caller:
        known = self._known_callers.get(digest)
        if known is None or known.gateway != gateway.gateway:
            settings = self._settings
            known = Caller(digest, gateway.gateway, settings.base_url, settings.deadline_s)
            self._known_callers[digest] = known  # as many as there are gateways' keys
        return known

    async def _known(self, header: bytes | None) -> tuple[Engine, bytes, GatewayKey]:
        """The engine, started, and the gateway that asks; raises Problem, Unavailable."""
        engine = self._engine
        if engine is None:
            engine = self._engine = self._make_engine()
            every_s = min(strangers.EVERY_S, self._settings.deadline_s / 2)
            self._strangers = Strangers(engine.refreshed_catalogue, every_s=every_s)
            self._quarantine = self._make_quarantine()
            self._notes = self._make_notes()
            engine.start()
        digest = self._digest(header)
        catalogue, now = engine.catalogue, datetime.now(UTC)
        key = catalogue.gateways.get(digest)
        expired = key is not None and key.expires_at is not None and key.expires_at <= now
        if key is None or expired:
            # Perhaps a new key: the batch compares the catalogue's version and reads it again.
            never_read = catalogue.version < 0
            look = engine.refreshed_catalogue if never_read else self._strangers.look
            try:
                async with asyncio.timeout(self._settings.deadline_s):
                    catalogue = await look()
            except TimeoutError as error:
                raise Unavailable("the catalogue was not read in time") from error
        # What our clock calls expired is so by the database's, or nothing: of a clock that is far
        # off the batch says so, for it decides nothing.
        now = datetime.now(UTC) - (catalogue.ahead if expired else timedelta(0))
        return engine, digest, catalogue.caller(digest, now=now)

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


def _let_in(engine: Engine, path: str, headers: Mapping[bytes, bytes]) -> None:
    """Raise Overloaded for what is refused unread: of how many calls it is, its length tells.

    Where that leaves doubt, only what would be refused as both; the rest is judged when it is read.
    """
    length = headers.get(b"content-length", b"")
    size = int(length) if length.isdigit() else None
    few = path.startswith(authorize.PATH) or (size is not None and size <= _FEW_BYTES)
    many = not few and size is not None and size > _MANY_BYTES
    rooms = [engine.room] if few else [engine.batches] if many else [engine.room, engine.batches]
    if routing.begins(path) and all(room.full for room in rooms):
        raise Overloaded(rooms[-1])
    if all(engine.is_full(of_many=room is engine.batches) for room in rooms):
        raise Overloaded(rooms[-1])


class _Taken(Waiter):
    """A request that came the short way, which is replied to when its call has its answer."""

    __slots__ = ("_gate", "_path", "_reply", "_request_id", "_single", "_started", "room")

    def __init__(
        self,
        gate: Gate,
        single: Single,
        reply: Reply,
        *,
        path: str,
        request_id: bytes,
        started: float,
    ) -> None:
        self._gate, self._single, self._reply = gate, single, reply
        self._path, self._request_id, self._started = path, request_id, started
        self.room: Room | None = None

    def answered(self) -> None:
        """Reply. Whatever goes wrong in that is this request's alone."""
        if self.room is not None:
            self.room.leave(time.monotonic())
        try:
            answer = self._gate.told(self._single.answer(), self._path)
            headers = (*answer.headers, (NAME, self._request_id))
            self._reply(answer.status, headers, answer.encoded())
            self._gate.count(self._path, answer.status, time.perf_counter() - self._started)
        except Exception:
            log.exception("a request could not be answered")
            fault = self._gate.fault(self._path)
            headers = (*fault.headers, (NAME, self._request_id))
            self._reply(fault.status, headers, fault.encoded())


async def _send(send: Send, answer: Answer, request_id: bytes) -> None:
    body = answer.encoded()
    headers: list[Header] = [
        *answer.headers,
        (b"content-length", str(len(body)).encode()),
        (NAME, request_id),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
