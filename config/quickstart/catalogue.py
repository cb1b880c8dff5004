"""What the quickstart sells and to whom: examples, in the shapes that the API takes."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

CALLS: Final = "api.calls"
TOKENS: Final = "chat.tokens"
FREE_CALLS: Final = 1_000

METERS: Final[tuple[Json, ...]] = (
    {"key": CALLS, "event_type": "api.call", "aggregation": "count", "unit": "call"},
    {
        "key": TOKENS,
        "event_type": "llm.completion",
        "aggregation": "sum",
        "value_property": "tokens",
        "dimensions": ("model",),
        "unit": "token",
        "display": {"unit": "1k tokens", "divisor": 1000},
    },
)


def _metered(meter: str, included: int, price: Json | None = None) -> Json:
    right: Json = {"meter": meter, "type": "metered", "included": included, "window": "period"}
    return right | ({"over": "bill", "price": price} if price else {"over": "deny"})


def _graduated(up_to: int, first: str, then: str) -> Json:
    tiers = ({"up_to": up_to, "unit_price": first}, {"up_to": None, "unit_price": then})
    return {"model": "graduated", "tiers": [{**tier, "flat_price": "0"} for tier in tiers]}


CALL_PRICE: Final = _graduated(50_000, "0.001", "0.0005")
TOKEN_PRICE: Final = _graduated(1_000_000, "0.00002", "0.00001")

# `grace_days` of the weekly plan is 0: the demonstration shows what a declined card leads to.
PLANS: Final[tuple[Json, ...]] = (
    {
        "key": "free",
        "name": "Free",
        "entitlements": [_metered(CALLS, FREE_CALLS), _metered(TOKENS, 10_000)],
    },
    {
        "key": "pro",
        "name": "Pro",
        "fee": 2_000,
        "entitlements": [
            _metered(CALLS, 10_000, CALL_PRICE),
            _metered(TOKENS, 100_000, TOKEN_PRICE),
        ],
    },
    {
        "key": "pro-weekly",
        "name": "Pro by the week",
        "interval": "week",
        "fee": 600,
        "grace_days": 0,
        "entitlements": [
            _metered(CALLS, 2_500, CALL_PRICE),
            _metered(TOKENS, 25_000, TOKEN_PRICE),
        ],
    },
    {
        "key": "scale",
        "name": "Scale",
        "fee": 9_900,
        "entitlements": [
            _metered(CALLS, 100_000, {"model": "per_unit", "unit_price": "0.0004"}),
            _metered(TOKENS, 2_000_000, {"model": "per_unit", "unit_price": "0.000008"}),
            {"feature": "sso", "type": "boolean"},
        ],
    },
)

# Globex is billed outside of Stripe, so that it needs no card to be served.
CUSTOMERS: Final[tuple[Json, ...]] = (
    {"external_id": "acme", "name": "Acme", "email": "ada@acme.example", "plan": "free"},
    {
        "external_id": "globex",
        "name": "Globex",
        "email": "gil@globex.example",
        "plan": "pro",
        "collection": "manual",
    },
)

GATEWAY: Final = "edge"
ROUTES: Final[tuple[Json, ...]] = (
    {"method": "POST", "path": "/v1/chat/*", "meter": TOKENS, "quantity": 1_000, "mode": "hold"},
    {"method": "*", "path": "/v1/*", "meter": CALLS, "quantity": 1, "mode": "consume"},
)
