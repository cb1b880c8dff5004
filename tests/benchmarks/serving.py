"""What `make bench` serves: the gate, and beside it, in the same server, what it is compared with.

`/bench/noop` reads a body and answers: the least that this server can do. `/bench/drf` does one
consume the usual way: a view that locks the balance's row. It runs in threads, each with a
connection that stays open, as a WSGI server would run it. `/bench/valkey` and
`/bench/valkey-gathered` count in Valkey, where one runs (counting.py).
"""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, cast

from config.asgi import Receive, Scope, Send
from config.asgi import application as farebox

# isort: split
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections, transaction
from django.db.models import F
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.authentication import BearerAuthentication
from accounts.domain.keys import digest_of
from accounts.models import ApiKey
from config import urls
from metering.domain.counting import event_key
from metering.domain.windows import anchored_window
from metering.models import Balance, Entitlement, Meter, UsageEvent

THREADS = 16
_NOTHING = b'{"allowed":true}'


class PlainConsume(APIView):
    """The same consume, one transaction a call: lock, look, write the event, write the balance."""

    authentication_classes = (BearerAuthentication,)
    permission_classes = ()

    def post(self, request: Request) -> Response:
        """Admit or deny."""
        now = datetime.now(UTC)
        body = cast("dict[str, Any]", request.data)
        quantity = int(body["quantity"])
        with transaction.atomic():
            key = ApiKey.objects.get(digest=digest_of(body["key"]), revoked_at=None)
            meter = Meter.objects.get(key=body["meter"])
            right = Entitlement.objects.get(customer_id=key.customer_id, meter=meter)
            start_at, _ = anchored_window(right.anchor_at, unit=right.window, at=now)
            found = Balance.objects.filter(
                customer_id=key.customer_id, meter=meter, window=right.window, start_at=start_at
            )
            balance = found.select_for_update().get()
            if balance.used + balance.held + quantity > right.included:
                return Response({"allowed": False}, status=402)
            UsageEvent.objects.create(
                customer_id=key.customer_id,
                id=event_key("bench", body["id"]),
                received_month=now.date().replace(day=1),
                source="bench",
                external_id=body["id"],
                type=meter.event_type,
                occurred_at=now,
                received_at=now,
                usage={str(meter.pk): quantity},
                fingerprint=0,
            )
            found.update(used=F("used") + quantity)
        remaining = right.included - balance.used - quantity
        return Response({"allowed": True, "balances": [{"remaining": remaining}]})


urls.urlpatterns.append(path("bench/drf", PlainConsume.as_view()))
for options in connections.settings.values():
    options |= {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": False}
_threads = ThreadPoolExecutor(THREADS)
_handler = WSGIHandler()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Route one connection."""
    where = scope.get("path", "")
    if where == "/bench/noop":
        await _read(receive)
        await _answer(send, 200, _NOTHING)
    elif where == "/bench/drf":
        body = await _read(receive)
        loop = asyncio.get_running_loop()
        await _answer(send, *await loop.run_in_executor(_threads, _wsgi, scope, body))
    elif where.startswith("/bench/valkey"):
        from tests.benchmarks import counting  # only where redis-py and a Valkey are

        await counting.answer(where, receive, send)
    else:
        await farebox(scope, receive, send)


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += cast("bytes", message.get("body", b""))
        if not message.get("more_body", False):
            return body


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _wsgi(scope: Scope, body: bytes) -> tuple[int, bytes]:
    statuses: list[str] = []

    def start(status: str, *_: Any) -> Any:
        statuses.append(status)

    environ: dict[str, Any] = {
        f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode("latin-1")
        for name, value in scope["headers"]
    }
    environ |= {
        "REQUEST_METHOD": scope["method"],
        "PATH_INFO": scope["path"],
        "SERVER_NAME": settings.ALLOWED_HOSTS[0],
        "SERVER_PORT": "80",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "wsgi.url_scheme": "http",
    }
    response = _handler(environ, start)
    content = b"".join(response)
    response.close()
    return int(statuses[0].split()[0]), content
