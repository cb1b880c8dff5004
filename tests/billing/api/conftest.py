"""Calling the API as an operator does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client

from tests.factories.accounts import an_operator_key, bearer


@dataclass(frozen=True, slots=True)
class Caller:
    """A client with a key; bodies and answers are JSON."""

    client: Client

    def get(self, path: str, **query: str) -> Any:
        return self.client.get(f"/api/v1{path}", query)

    def post(self, path: str, body: object | None = None, **headers: str) -> Any:
        return self.client.post(
            f"/api/v1{path}",
            json.dumps({} if body is None else body),
            content_type="application/json",
            headers=headers,
        )

    def made(self, path: str, body: object | None = None) -> Any:
        """The body of an answer that must be 200 or 201."""
        answer = self.post(path, body)
        assert answer.status_code in (200, 201), answer.content
        return answer.json()

    def seen(self, path: str, **query: str) -> Any:
        """The body of an answer that must be 200."""
        answer = self.get(path, **query)
        assert answer.status_code == 200, answer.content
        return answer.json()


@pytest.fixture
def operator(db: None) -> Caller:
    return Caller(Client(headers=bearer(an_operator_key()[1])))
