"""What makes each management path do its work, in a database with one of everything.

By `METHOD /path`: the body, the query, and what has to be done before. Words in angle brackets
are names that the stock has (tests/factories/stock.py), or moments from now in days.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tests.factories.stock import CALLS, CENT, SEATS, Stock

_V1: Final = "/api/v1"
_REASON = {"reason": "they asked"}
_TOP_UP = {"threshold": 1_000, "amount": 2_000, "monthly_cap": 5_000}
_ADDRESS = {"legal_name": "Acme, Inc.", "country": "DE", "city": "Berlin", "postal_code": "10115"}
_MIGRATION = {"source": "<source>", "target": "<target>"}
_EVENT = {"id": "old-1", "subject": "acme", "time": "<-8.5>", "data": {"tokens": 1}}
BODIES: Final[dict[str, dict[str, Any]]] = {
    "POST /api-keys": {"customer": "acme", "name": "second"},
    "POST /backfills": {
        "customers": ["acme"], "event_type": "call", "mode": "replace", "from": "<-8>",
        "to": "<-7>", **_REASON,
    },
    "POST /backfills/{backfill}/events": {"events": [_EVENT, _EVENT, {}]},
    "POST /checkout-sessions": {"customer": "initech", "plan": "large"},
    "POST /coupons": {"code": "once", "name": "Once", "amounts": {"usd": 500}, "periods": 1},
    "POST /credits": {"customer": "acme", "amount": 500, "expires_at": "<9>"},
    "POST /customers": {"name": "Pied Piper", "external_id": "piper", "metadata": {"a": "b"}},
    "PATCH /customers/{reference}": {"name": "Acme & Co", "external_id": None},
    "PUT /customers/{reference}/auto-top-up": _TOP_UP,
    "PATCH /customers/{reference}/billing-details": _ADDRESS | {"tax_exempt": "exempt"},
    "POST /customers/{reference}/coupons": {"code": "AUTUMN"},
    "POST /customers/{reference}/erase": _REASON,
    "POST /customers/{reference}/overrides": {
        "meter": "calls", "over": "bill", "price": CENT, "starts_at": "<20>", "ends_at": "<30>",
    },
    "PUT /customers/{reference}/spend-limit": {"amount": 800_000},
    "POST /customers/{reference}/top-ups": {"amount": 2_500},
    "POST /events/{event}/amend": {"quantity": 4, **_REASON},
    "POST /events/{event}/void": _REASON,
    "POST /gateways": {"name": "other", "routes": [{"path": "/", "meter": "calls"}]},
    "POST /gateways/{gateway}/keys": {"name": "third", "expires_at": "<9>"},
    "PUT /gateways/{gateway}/routes": {"routes": [{"path": "/v2/*", "meter": "calls"}]},
    "POST /grants": {"customer": "acme", "meter": "calls", "quantity": 5, "expires_at": "<9>"},
    "POST /invoices/{invoice}/credit-notes": {"amount": 10, **_REASON},
    "PUT /me/auto-top-up": {"threshold": 900, "amount": 1_500, "monthly_cap": 3_000},
    "PATCH /me/billing-details": _ADDRESS,
    "PUT /me/spend-limit": {"amount": 700_000},
    "POST /members": {"customer": "acme", "email": "bob@acme.example", "role": "owner"},
    "POST /meters": {
        "key": "gb", "event_type": "moved", "aggregation": "max", "property": "gb",
        "filters": [{"property": "zone", "in": ["a", 1, True]}, {"property": "x", "gte": 1.5}],
        "display": {"unit": "GB", "divisor": 1_000},
    },
    "POST /meters/{reference}/versions": {"filters": [{"property": "model", "exists": True}]},
    "POST /operator-keys": {"name": "robot", "scopes": ["reports:read"]},
    "POST /plan-migrations": _MIGRATION,
    "POST /plan-migrations/preview": _MIGRATION,
    "POST /plans": {
        "key": "wide", "name": "Wide", "fee": 100, "prices": {"eur": {"fee": 90}},
        "entitlements": [{"type": "boolean", "feature": "sso"},
                         {"type": "static", "feature": "seats", "value": "5"}],
    },
    "POST /plans/{plan}/versions": {"fee": 5_000, "entitlements": [CALLS], "seats": SEATS},
    "POST /price-simulations": {"version": "<source>", "start_at": "<-90>", "end_at": "<0>"},
    "POST /price-tables": {"key": "other", "currency": "eur"},
    "POST /price-tables/{key}/versions": {"prices": [{"model": "*", "output": "0.1"}]},
    "POST /quarantine/discard": {"events": ["<quarantined>"]},
    "POST /quarantine/redrive": {"events": ["<quarantined>"]},
    "POST /subscriptions": {"customer": "initech", "plan": "large", "anchor": "calendar"},
    "POST /subscriptions/{subscription}/billing-threshold": {"amount": 90_000},
    "POST /subscriptions/{subscription}/change": {"plan": "large"},
    "POST /subscriptions/{subscription}/change/preview": {"plan": "large", "when": "period_end"},
    "POST /subscriptions/{subscription}/seats": {"seats": 3},
    "POST /wallets/top-up": {"customer": "acme", "amount": 5, "reference": "wire 8"},
}  # fmt: skip
_SUBSCRIPTION = "POST /subscriptions/{subscription}"
_SPAN = {"from": "<-30>", "to": "<0>"}
_HIS = {"customer": "acme"}
QUERIES: Final[dict[str, dict[str, Any]]] = {
    "GET /decisions": _HIS,
    "GET /events": _HIS,
    "GET /events/export": {**_HIS, "format": "jsonl"},
    "GET /grants": _HIS,
    "GET /me/usage": {"meter": "calls", "group_by": "model"},
    "GET /reports/invoice-lines.csv": _SPAN,
    "GET /reports/usage.csv": _SPAN,
    "GET /usage": {**_HIS, "meter": "calls", "bucket": "day"},
}
BEFORE: Final[dict[str, tuple[str, ...]]] = {
    "POST /backfills/{backfill}/preview": ("POST /backfills/{backfill}/events",),
    "POST /backfills/{backfill}/close": ("POST /backfills/{backfill}/events",),
    "POST /backfills/{backfill}/revert": ("POST /backfills/{backfill}/close",),
    "POST /customers/{reference}/resume": ("POST /customers/{reference}/suspend",),
    f"{_SUBSCRIPTION}/keep": (f"{_SUBSCRIPTION}/cancel",),
    f"{_SUBSCRIPTION}/resume": (f"{_SUBSCRIPTION}/pause",),
}
_NAMED = re.compile(r"<([^<>]+)>")


def steps(label: str) -> list[str]:
    """What has to be done for this, in order, and this."""
    before = BEFORE.get(label.replace(_V1, ""), ())
    return [*(each.replace(" ", f" {_V1}") for each in before), label]


def body(label: str, stocked: Stock) -> Any:
    """The body with which an operation does its work."""
    return _named(BODIES.get(label.replace(_V1, ""), {}), stocked)


def query(label: str, stocked: Stock) -> Any:
    """The query with which an operation does its work."""
    return _named(QUERIES.get(label.replace(_V1, ""), {}), stocked)


def _named(given: Any, stocked: Stock) -> Any:
    match given:
        case dict():
            return {name: _named(value, stocked) for name, value in given.items()}
        case list():
            return [_named(each, stocked) for each in given]
        case str() if found := _NAMED.fullmatch(given):
            return stocked.names.get(found[1]) or _moment(float(found[1]))
        case _:
            return given


def _moment(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


def mixed(made: Any, working: Any, names: Mapping[str, str], strange: set[int]) -> Any:
    """What works, with the members at these places as chance made them, but for names."""
    if not isinstance(made, Mapping):
        return made
    chosen = [member for place, member in enumerate(made.items()) if place in strange]
    return {**working, **{name: known(value, names) for name, value in chosen}}


def known(given: Any, names: Mapping[str, str]) -> Any:
    """What was made by chance, with these in place of what stands there."""
    match given:
        case dict():
            return {name: names.get(name, known(value, names)) for name, value in given.items()}
        case list():
            return [known(each, names) for each in given]
        case _:
            return given
