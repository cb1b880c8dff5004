"""A fault of ours is told as every problem is, and not by the server in its own words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping
from typing import Any

import msgspec
import pytest

from metering.gate.app import Gate, GateSettings
from metering.gate.engine import Engine


def _broken() -> Engine:
    raise RuntimeError("nothing is set up")


def test_a_fault_of_ours_is_a_problem(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate(_broken, settings=GateSettings("https://farebox.test", 2.0))
    said: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b'{"meter": "api.calls"}', "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        said.append(message)

    headers = [(b"authorization", b"Bearer unread"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/api/v1/check", "headers": headers}
    with caplog.at_level(logging.ERROR):
        asyncio.run(gate(scope, receive, send))

    start, body = said
    assert start["status"] == 500
    assert (b"content-type", b"application/problem+json") in start["headers"]
    assert msgspec.json.decode(body["body"])["code"] == "internal_error"
    assert "nothing is set up" in caplog.text
