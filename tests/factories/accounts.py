"""Customers, members, gateways and keys for tests, made by the operations themselves."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.test import Client

from accounts.domain.keys import NewKey
from accounts.domain.routes import Route
from accounts.models import ApiKey, Customer, Gateway, Member, OperatorKey
from accounts.operations.customers import create_customer
from accounts.operations.erasing import erase_account
from accounts.operations.gateways import create_gateway
from accounts.operations.keys import issue_api_key, issue_operator_key
from accounts.operations.members import create_member
from accounts.operations.versions import bump

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ACTOR = "system"
PASSWORD = "correct horse battery staple"
_numbers = itertools.count(1)


def a_customer(**members: Any) -> Customer:
    """A customer with a version row and a name of its own."""
    number = next(_numbers)
    given: dict[str, Any] = {"name": f"Customer {number}", "external_id": f"customer-{number}"}
    return create_customer(**{**given, "actor": ACTOR, "now": NOW, **members})


def an_api_key(customer: Customer | None = None, **members: Any) -> tuple[ApiKey, NewKey]:
    """A key of the customer, or of a new one."""
    owner = customer or a_customer()
    return issue_api_key(owner.id, **{"name": "test", "actor": ACTOR, "now": NOW, **members})


def an_erased_customer() -> Customer:
    """Somebody who asked to be forgotten, and was."""
    found = a_customer()
    with transaction.atomic():
        bump(found.id)
        erase_account(found.id, now=NOW)
    return found


def an_operator_key(*scopes: str, **members: Any) -> tuple[OperatorKey, NewKey]:
    """An operator key with these scopes, `admin` unless told otherwise."""
    given = {"name": "test", "scopes": scopes or ("admin",), "actor": ACTOR, "now": NOW}
    return issue_operator_key(**{**given, **members})


def a_gateway(*routes: Route, **members: Any) -> tuple[Gateway, NewKey]:
    """A gateway with these routes and its first key."""
    given: dict[str, Any] = {"name": f"edge-{next(_numbers)}", "kind": "other", "routes": routes}
    return create_gateway(**{**given, "actor": ACTOR, "now": NOW, **members})


def a_member(customer: Customer | None = None, **members: Any) -> Member:
    """A member who signs in with PASSWORD; of the operator where there is no customer."""
    given: dict[str, Any] = {"email": f"member-{next(_numbers)}@example.com", "password": PASSWORD}
    given |= {"customer_id": customer.id if customer else None, "actor": ACTOR, "now": NOW}
    return create_member(**{**given, **members})


def bearer(made: NewKey) -> dict[str, str]:
    """The header that carries a key."""
    return {"Authorization": f"Bearer {made.text}"}


class Api:
    """The management API as a caller with this key (or none) sees it."""

    def __init__(self, made: NewKey | None = None, **headers: str) -> None:
        self._headers = {**(bearer(made) if made else {}), **headers}
        self._client = Client(raise_request_exception=False)

    def get(self, path: str, **query: str) -> Any:
        """GET /api/v1/<path>."""
        return self._client.get(f"/api/v1/{path}", query, headers=self._headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        """POST /api/v1/<path> with a JSON body (or these very bytes)."""
        return self.call("POST", path, body, **headers)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Any method; `Idempotency_Key="…"` becomes the header Idempotency-Key."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        content_type = sent.pop("Content-Type", "application/json")
        return self._client.generic(
            method, f"/api/v1/{path}", raw, content_type=content_type,
            headers={**self._headers, **sent},
        )  # fmt: skip


def operator(*scopes: str) -> Api:
    """The API with a new operator key of these scopes, `admin` unless told otherwise."""
    return Api(an_operator_key(*scopes)[1])
