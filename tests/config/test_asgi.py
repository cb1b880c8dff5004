"""config.asgi: what is not the gate's goes to Django, with a body that has an end."""

from __future__ import annotations

import asyncio
from typing import Any

from config.asgi import DJANGO_BODY_MAX, application

CHUNK = 1024 * 1024


def test_a_body_without_end_is_refused_before_a_view_is_asked() -> None:
    asked, said = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b"x" * CHUNK, "more_body": True}

    async def send(message: Any) -> None:
        said.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/meters",
        "raw_path": b"/api/v1/meters",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 1),
        "scheme": "http",
        "http_version": "1.1",
    }

    asyncio.run(application(scope, receive, send))

    assert [message["type"] for message in said] == ["http.response.start", "http.response.body"]
    assert said[0]["status"] == 413
    assert b"body_too_large" in said[1]["body"]
    assert b'"instance":"/api/v1/meters"' in said[1]["body"]
    assert asked <= DJANGO_BODY_MAX // CHUNK + 2
