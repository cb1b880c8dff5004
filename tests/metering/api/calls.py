"""Calling the management API as an operator or a customer."""

from __future__ import annotations

import json
from typing import Any

from django.test import Client

from accounts.models import Customer
from tests.factories.accounts import an_api_key, bearer


def post(client: Client, path: str, body: object, **headers: str) -> Any:
    """POST a JSON body."""
    return client.post(
        f"/api/v1{path}", json.dumps(body), content_type="application/json", headers=headers
    )


def get(client: Client, path: str, **query: str) -> Any:
    """GET with a query."""
    return client.get(f"/api/v1{path}", query)


def as_customer(customer: Customer) -> Client:
    """A client with a key of the customer."""
    return Client(headers=bearer(an_api_key(customer)[1]))
