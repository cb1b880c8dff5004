"""The ASGI app: reads a request, lets faults have their way, answers, lets time catch up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from billing.payments.simulator import doors, due, pages
from billing.payments.simulator.api import (
    Answer,
    Api,
    Request,
    broken,
    locked,
    new_request_id,
    throttled,
)
from billing.payments.simulator.control import Control
from billing.payments.simulator.delivery import Courier
from billing.payments.simulator.errors import Refusal
from billing.payments.simulator.faults import Fault, Faults
from billing.payments.simulator.forms import encode
from billing.payments.simulator.world import API_VERSION, World

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_LARGEST_BODY = 4 * 1024 * 1024


class App:
    """One simulated account behind HTTP. Calls run one at a time."""

    def __init__(
        self, world: World, api: Api, control: Control, faults: Faults, courier: Courier
    ) -> None:
        self._world = world
        self._api = api
        self._control = control
        self._faults = faults
        self._courier = courier

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = await _read(scope, receive)
        if request is None:
            await _send_json(send, Answer(413, {"error": {"type": "invalid_request_error"}}))
        elif request.path.startswith("/v1/"):
            await self._answer_api(request, send)
        elif request.path.startswith("/_simulator/"):
            await self._answer_control(request, send)
        else:
            await self._answer_click(request, send)
        # After the answer and before the webhooks: what fell due, such as a first charge.
        with self._world.store.unit():
            due.catch_up(self._world)
        self._courier.wake()

    async def _answer_api(self, request: Request, send: Send) -> None:
        request_id = new_request_id()
        fault = self._faults.take(request.method, request.path)
        kind = fault.kind if fault else ""
        if kind == "drop_before":
            await _hang_up(send)
            return
        try:
            answer = await self._execute(request, request_id, fault)
        except Refusal as refusal:
            answer = Answer(refusal.status, refusal.body, refusal.headers)
        self._note(request, request_id, answer)
        if kind == "drop_after":
            await _hang_up(send)
            return
        answer.headers |= {"Request-Id": request_id, "Stripe-Version": API_VERSION}
        if request.key is not None:
            answer.headers["Idempotency-Key"] = request.key
        await _send_json(send, answer)

    async def _execute(self, request: Request, request_id: str, fault: Fault | None) -> Answer:
        early = {"409": locked, "429": throttled, "500": broken}
        if fault is not None and fault.kind in early:
            return early[fault.kind]()
        begun = self._api.begin(request)
        if isinstance(begun, Answer):
            return begun
        if fault is not None and fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        return self._api.finish(request, begun, request_id, fault)

    async def _answer_control(self, request: Request, send: Send) -> None:
        try:
            answer = self._control.answer(request)
        except Refusal as refusal:
            answer = Answer(refusal.status, refusal.body)
        browser = "text/html" in request.headers.get("accept", "")
        if browser and request.method == "POST" and answer.status == 200:
            await _send_html(send, doors.Shown(303, location="/"))
        else:
            await _send_json(send, answer)

    async def _answer_click(self, request: Request, send: Send) -> None:
        try:
            shown = doors.answer(self._world, request)
        except Refusal as refusal:
            shown = doors.Shown(
                refusal.status, pages.page("That did not work", f"<p>{refusal}</p>")
            )
        await _send_html(send, shown)

    def _note(self, request: Request, request_id: str, answer: Answer) -> None:
        self._world.store.run(
            "insert into request (id, method, path, status, key, replayed) "
            "values (?, ?, ?, ?, ?, ?)",
            request_id,
            request.method,
            request.path,
            answer.status,
            request.key,
            int("Idempotent-Replayed" in answer.headers),
        )


async def _read(scope: Scope, receive: Receive) -> Request | None:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
        if size > _LARGEST_BODY:
            return None
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=scope["query_string"].decode("latin-1"),
        headers={
            name.decode("latin-1").lower(): text.decode("latin-1")
            for name, text in scope["headers"]
        },
        body=b"".join(parts),
    )


async def _send_json(send: Send, answer: Answer) -> None:
    headers = {"Content-Type": "application/json", **answer.headers}
    await _send(send, answer.status, headers, encode(answer.body))


async def _send_html(send: Send, shown: doors.Shown) -> None:
    headers = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store"}
    if shown.location is not None:
        headers["Location"] = shown.location
    await _send(send, shown.status, headers, shown.html.encode())


async def _send(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    headers["Content-Length"] = str(len(body))
    pairs = [(name.lower().encode(), text.encode()) for name, text in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def _hang_up(send: Send) -> None:
    """Close the connection without an answer, as a lost network would.

    ASGI has no word for it; uvicorn's `send` belongs to the object that holds the transport.
    """
    cycle = getattr(send, "__self__", None)
    transport = getattr(cycle, "transport", None)
    if transport is not None:
        transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
