"""The ASGI entry: the hot paths go to the gate, everything else to Django."""

from __future__ import annotations

import gc
import os
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import timedelta
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.core.asgi import get_asgi_application

from config import environment as env
from config.shortcut import STATE
from metering.gate import answers
from metering.gate.app import Gate, GateSettings
from metering.gate.engine import Engine
from metering.gate.fault_notes import FaultNotes
from metering.gate.items import Bounds, Limits
from metering.gate.quarantine import Quarantine
from metering.gate.routing import is_hot
from metering.gate.store import Store
from metering.gate.wire import Problem

DJANGO_BODY_MAX = 16 * 1024 * 1024
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def make_engine() -> Engine:
    """An engine as the environment sets it up; made in the process and loop that use it."""
    return Engine(
        Store(env.DATABASE_URL.read(), statement_timeout_ms=env.GATE_STATEMENT_TIMEOUT_MS.read()),
        bounds=Bounds(
            base_url=env.BASE_URL.read().rstrip("/"),
            max_age=timedelta(days=env.EVENT_MAX_AGE_DAYS.read()),
            max_ahead=timedelta(seconds=env.EVENT_MAX_AHEAD_S.read()),
            clocks_apart=timedelta(seconds=env.CLOCKS_APART_S.read()),
        ),
        limits=Limits(
            queue=env.GATE_QUEUE.read(),
            batch=env.GATE_BATCH.read(),
            copies=env.GATE_COPIES.read(),
            wait_s=env.GATE_WAIT_MS.read() / 1_000,
        ),
    )


def make_quarantine() -> Quarantine | None:
    """Where refused events are kept, if the operator wants them kept."""
    most = env.QUARANTINE_EVENTS.read()
    if not most:
        return None
    return Quarantine(
        env.DATABASE_URL.read(),
        most_events=most,
        most_bytes=env.QUARANTINE_BYTES.read(),
        statement_timeout_ms=env.GATE_STATEMENT_TIMEOUT_MS.read(),
    )


def make_notes() -> FaultNotes:
    """Where it is noted what gateways get wrong."""
    return FaultNotes(
        env.DATABASE_URL.read(), statement_timeout_ms=env.GATE_STATEMENT_TIMEOUT_MS.read()
    )


gate = Gate(
    make_engine,
    make_quarantine=make_quarantine,
    make_notes=make_notes,
    settings=GateSettings(
        base_url=env.BASE_URL.read().rstrip("/"),
        deadline_s=env.GATE_DEADLINE_MS.read() / 1000,
    ),
)
django = get_asgi_application()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Route one connection."""
    if scope["type"] == "lifespan":
        scope.get("state", {})[STATE] = gate  # small requests may go to it without ASGI
        await _live(receive, send)
    elif scope["type"] == "http" and is_hot(scope["method"], scope["path"]):
        await gate(scope, receive, send)
    else:
        await _django(scope, receive, send)


async def _django(scope: Scope, receive: Receive, send: Send) -> None:
    """Let Django answer, with a body as large as any view takes: it writes it to disk first."""
    got, started = 0, False

    async def bounded() -> MutableMapping[str, Any]:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        return {"type": "http.disconnect"} if got > DJANGO_BODY_MAX else message

    async def noted(message: MutableMapping[str, Any]) -> None:
        nonlocal started
        started = True
        await send(message)

    await django(scope, bounded, noted)  # type: ignore[arg-type]  # asgiref has its own types
    if got > DJANGO_BODY_MAX and not started:
        too_large = Problem("body_too_large", f"The body may have {DJANGO_BODY_MAX:,} bytes.")
        refusal = answers.problem(too_large, base_url=env.BASE_URL.read().rstrip("/"))
        answer = answers.about(refusal, answers.instance_of(scope["path"]))
        headers = [*answer.headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.encoded()})


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            # The gate makes many short-lived objects beside copies that stay: let the collector
            # look seldom, and not at what was there from the start (a tenth of the CPU of a call).
            gc.freeze()
            gc.set_threshold(50_000, 20, 50)
            await send({"type": "lifespan.startup.complete"})
        else:
            await gate.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
