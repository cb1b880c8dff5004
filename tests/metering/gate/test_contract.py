"""The table of POST /check: each code's state is built, and all of its answer is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from accounts.domain.problem_types import PROBLEM_TYPES
from accounts.operations.versions import bump, bump_catalogue
from config.gate_shapes import REMEDY
from metering.models import Entitlement, Hold, Meter, Offer, UsageEvent
from tests.factories.accounts import an_operator_key, bearer
from tests.factories.metering import make_customer as make_bare
from tests.metering.gate.client import BASE_URL, GateProcess, Got
from tests.metering.gate.conftest import World, change, entitle, past
from tests.metering.gate.structured import FieldMalformed, Item, read_list

pytestmark = pytest.mark.django_db(transaction=True)
Asked = Callable[[World], Got]
CALLS: dict[str, Any] = {"meter": "api.calls", "mode": "consume", "id": "asked"}


def standing(code: str) -> Asked:
    """Billing says no."""

    def ask(world: World) -> Got:
        change(world.customer, deny_code=code, deny_at=past(5), invoice_url="https://pay.test/in_1")
        return ask_for(world)

    return ask


def ask_for(world: World, **body: Any) -> Got:
    """Consume one call."""
    got: Got = world.check(**(CALLS | body))
    return got


def only_right(world: World, **terms: Any) -> None:
    """Instead of what the customer has of calls."""
    with transaction.atomic():
        bump(world.customer.id)
        Entitlement.objects.filter(customer_id=world.customer.id, meter=world.calls).delete()
    entitle(world.customer, world.calls, **terms)


def not_sold(world: World) -> Got:
    """A customer without a plan."""
    make_bare(external_id="bare")
    return world.gate.check({**CALLS, "customer": "bare"})


def used_up(world: World) -> Got:
    """The month is used up, and a larger plan is on sale."""
    terms = {"unlimited": False, "over": "deny", "overage_limit": None, "window": "month"}
    meters = {str(world.calls.id): {**terms, "included": 9_000}}
    with transaction.atomic():
        Offer.objects.create(
            plan_key="pro", plan_name="Pro", terms={"meters": meters, "features": {}}
        )
        bump_catalogue()
    ask_for(world, id="all", quantity=1_000)
    return ask_for(world)


def prepaid_gone(world: World) -> Got:
    """A right for life is used up."""
    only_right(world, window="lifetime", included=10)
    ask_for(world, id="all", quantity=10)
    return ask_for(world)


def cap_reached(world: World) -> Got:
    """The customer's own cap on overage."""
    only_right(world, included=10, over="bill", overage_limit=5)
    ask_for(world, id="all", quantity=15)
    return ask_for(world)


def sold_elsewhere(world: World) -> Got:
    """Another plan has it."""
    images = Meter.objects.create(
        key="images", event_type="image", aggregation="count", created_at=past(1)
    )
    terms = {"unlimited": True, "included": 0, "over": "deny", "overage_limit": None}
    meters = {str(images.id): {**terms, "window": "month"}}
    with transaction.atomic():
        Offer.objects.create(
            plan_key="pro", plan_name="Pro", terms={"meters": meters, "features": {}}
        )
        bump_catalogue()
    return ask_for(world, meter="images")


def sold_nowhere(world: World) -> Got:
    """No plan has it."""
    with transaction.atomic():
        Meter.objects.create(key="video", event_type="v", aggregation="count", created_at=past(1))
        bump_catalogue()
    return ask_for(world, meter="video")


def suspended(world: World) -> Got:
    """The operator said so."""
    with transaction.atomic():
        bump(world.customer.id)
        world.customer.suspended_at = datetime.now(UTC)
        world.customer.save()
    return ask_for(world)


def minute_full(world: World) -> Got:
    """A rate."""
    entitle(world.customer, world.calls, included=2, window="hour", anchor_at=past(60))
    ask_for(world, id="all", quantity=2)
    return ask_for(world)


def only_holds(world: World) -> Got:
    """Everything is reserved."""
    ask_for(world, mode="hold", id="hold", quantity=1_000, ttl=30)
    return ask_for(world)


# code -> (how to get there, retry class, remedies and whether each admits the call)
DENIALS: dict[str, tuple[Asked, str, dict[str, bool]]] = {
    "no_subscription": (not_sold, "never", {}),
    "trial_ended": (standing("trial_ended"), "never", {"update_payment_method": True}),
    "subscription_inactive": (
        standing("subscription_inactive"), "never", {"pay_invoice": True},
    ),
    "payment_method_missing": (
        standing("payment_method_missing"), "never", {"update_payment_method": True},
    ),
    "payment_failed": (
        standing("payment_failed"), "never", {"pay_invoice": True, "update_payment_method": True},
    ),
    "payment_action_required": (
        standing("payment_action_required"), "never", {"pay_invoice": True},
    ),
    "quota_exhausted": (used_up, "after_reset", {"upgrade": True, "wait": True}),
    "credits_exhausted": (prepaid_gone, "never", {}),
    "spend_limit_reached": (cap_reached, "after_reset", {"raise_spend_limit": True, "wait": True}),
    "not_in_plan": (sold_elsewhere, "never", {"upgrade": True}),
    "not_entitled": (sold_nowhere, "never", {}),
    "customer_suspended": (suspended, "never", {}),
    "rate_exceeded": (minute_full, "after_reset", {"wait": True}),
    "in_flight": (only_holds, "after_in_flight", {"wait": True}),
}  # fmt: skip
MEMBERS = (
    "type", "title", "status", "detail", "instance", "code", "retry", "decision", "customer",
    "meter", "requested", "max_admissible", "balances", "remedies",
)  # fmt: skip


def test_every_code_of_the_table_is_tried(shared: Path) -> None:
    lines = (shared / "api.md").read_text().splitlines()
    rows = [line for line in lines if re.match(r"\| (402|403|429) \|", line)]
    assert rows
    listed = {code for row in rows for code in re.findall(r"`([a-z_]+)`", row.split("|")[2])}
    assert listed == set(DENIALS)


def test_every_action_that_is_described_is_tried() -> None:
    described = set(REMEDY["properties"]["action"]["enum"])
    assert described == {action for _, _, remedies in DENIALS.values() for action in remedies}
    # Money in a wallet pays invoices and gives nothing of a meter (decision 0015).
    assert [each for each in PROBLEM_TYPES.values() if "top up" in each.mend.lower()] == []


@pytest.mark.parametrize("code", DENIALS)
def test_a_denial_says_why_and_the_way_out(world: World, code: str) -> None:
    ask, retry, remedies = DENIALS[code]
    got = ask(world)
    kind = PROBLEM_TYPES[code]

    assert (got.status, got.body["code"], got.body["retry"]) == (kind.status, code, retry)
    assert tuple(got.body) == MEMBERS
    assert (got.body["title"], got.body["status"]) == (kind.title, kind.status)
    assert got.body["type"] == f"{BASE_URL}/docs/problems/{code}"
    assert got.body["instance"] == f"/api/v1/decisions/{got.body['decision']}"
    assert got.headers["content-type"] == "application/problem+json"
    assert got.headers["cache-control"] == "no-store"
    assert got.headers["x-farebox-customer"] == got.body["customer"]
    assert got.headers["x-farebox-decision"] == got.body["decision"]
    assert {each["action"]: each["would_admit"] for each in got.body["remedies"]} == remedies
    assert all(each["href"].startswith("https://") for each in got.body["remedies"]
               if each["action"] != "wait")  # fmt: skip
    assert ("retry-after" in got.headers) == (retry != "never")
    policies, limits = read_limits(got)
    assert all(("t" in each.parameters) == (retry != "never") for each in limits)
    assert len(policies) == len(limits) == len(got.body["balances"])
    asked = {each.external_id for each in UsageEvent.objects.all()}
    assert "asked" not in asked
    assert not Hold.objects.filter(external_id="asked").exists()


@pytest.mark.parametrize("code", ["quota_exhausted", "in_flight", "customer_suspended"])
def test_the_decision_can_be_looked_up(world: World, code: str) -> None:
    got = DENIALS[code][0](world)
    answer = Client(headers=bearer(an_operator_key()[1])).get(got.body["instance"])

    assert answer.status_code == 200, answer.content
    told = answer.json()
    assert told["problem"] == got.body
    assert (told["id"], told["allowed"], told["code"]) == (got.body["decision"], False, code)
    assert (told["customer"], told["count"], told["rule"]) == (
        got.body["customer"], 1, got.body["detail"],
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["consume", "hold"])
def test_an_admitted_call_can_be_looked_up(world: World, mode: str) -> None:
    got = ask_for(world, mode=mode, quantity=7)
    answer = Client(headers=bearer(an_operator_key()[1])).get(
        f"/api/v1/decisions/{got.body['decision']}"
    )

    told = answer.json()
    assert (told["id"], told["allowed"], told["customer"]) == (
        got.body["decision"], True, got.body["customer"],
    )  # fmt: skip
    assert told["answer"]["balances"] == got.body["balances"]
    assert told["hold"] == got.body.get("hold", {}).get("id")
    assert (told["event"] is None) == (mode == "hold")
    peeked = world.check()
    looked = Client(headers=bearer(an_operator_key()[1])).get(
        f"/api/v1/decisions/{peeked.body['decision']}"
    )
    assert looked.status_code == 404  # a look that was admitted leaves nothing


def test_sixteen_items_are_denied_in_less_than_four_kilobytes(world: World) -> None:
    with transaction.atomic():
        bump_catalogue()
        meters = [
            Meter.objects.create(
                key=f"a.meter.with.a.rather.long.name.{n:02}", event_type=f"t{n}",
                aggregation="count", created_at=past(1),
            )
            for n in range(16)
        ]  # fmt: skip
        terms = {"unlimited": False, "over": "deny", "overage_limit": None, "window": "month"}
        for plan in ("one", "two", "three", "four"):
            each = {str(meter.id): {**terms, "included": 10**12} for meter in meters}
            Offer.objects.create(
                plan_key=plan, plan_name=plan, terms={"meters": each, "features": {}}
            )
    for meter in meters:
        entitle(world.customer, meter, included=10**10)
        entitle(world.customer, meter, included=10**9, window="hour")
    items = [{"meter": meter.key, "quantity": 10**8} for meter in meters]
    items[9]["quantity"] = 10**11

    got = ask_for(world, meter=None, items=items)

    assert (got.status, got.body["meter"]) == (402, meters[9].key)
    assert int(got.headers["content-length"]) < 4_096
    shown = {(each["meter"], each["window"]) for each in got.body["balances"]}
    assert shown >= {(meters[9].key, "month"), (meters[9].key, "hour")}
    read_limits(got)
    assert sum(map(len, got.headers.values())) < 4_096


def test_numbers_of_rate_limit_fields_stay_in_their_grammar(world: World) -> None:
    only_right(world, included=10**17)
    _, (limit,) = read_limits(ask_for(world))
    assert limit.parameters["r"] == 10**15 - 1
    assert isinstance(limit.parameters["t"], int)


def read_limits(got: Got) -> tuple[list[Item], list[Item]]:
    """RateLimit-Policy and RateLimit, as draft-ietf-httpapi-ratelimit-headers-10 has them."""
    if "ratelimit" not in got.headers:
        assert "ratelimit-policy" not in got.headers
        return [], []
    policies, limits = (read_list(got.headers[f]) for f in ("ratelimit-policy", "ratelimit"))
    for each in policies:
        assert each.parameters.keys() <= {"q", "w", "qu", "pk"}
        assert isinstance(each.value, str)
        assert isinstance(each.parameters["q"], int)
        assert each.parameters["q"] >= 0
        assert "w" not in each.parameters or int(each.parameters["w"]) > 0
    for each in limits:
        assert each.parameters.keys() <= {"r", "t", "pk"}
        assert isinstance(each.parameters["r"], int)
        assert each.parameters["r"] >= 0
        assert int(each.parameters.get("t", 0)) >= 0
    assert [each.value for each in policies] == [each.value for each in limits]
    return policies, limits


@pytest.mark.parametrize(
    "text", ["", '"a', '"a";', '"a";Q=1', '"a",', '"a";q=1.5', '"ü"', '"a";q=1234567890123456', "a"]
)
def test_the_reader_of_structured_fields_is_strict(text: str) -> None:
    with pytest.raises(FieldMalformed):
        read_list(text)
    assert read_list('"a\\"b";q=10; w , -3') == [Item('a"b', {"q": 10, "w": True}), Item(-3)]


# --- 404, 409, 422, 503 -----------------------------------------------------------------------


def closed(world: World, first: str, then: str, **body: Any) -> Got:
    """Close a hold and then close it in another way."""
    hold = ask_for(world, mode="hold", quantity=5).body["hold"]["id"]
    bodies: dict[str, Any] = {"settle": {"quantity": 3}, "release": None, "extend": {"ttl": 60}}
    path = f"/api/v1/holds/{hold}"
    if first == "lapse":
        with transaction.atomic():
            bump(world.customer.id)
            Hold.objects.update(expires_at=past(1))
    elif first:
        world.gate.send("POST", f"{path}/{first}", bodies[first])
    return world.gate.send("POST", f"{path}/{then}", body or bodies[then])


def reused(world: World) -> Got:
    """The same id with another quantity."""
    ask_for(world, quantity=1)
    return ask_for(world, quantity=2)


def closing_twice_at_once(world: World) -> Got:
    """Two closings of one hold at the same moment."""
    hold = ask_for(world, mode="hold", quantity=5).body["hold"]["id"]
    path = f"/api/v1/holds/{hold}"
    got = world.gate.together((f"{path}/settle", {"quantity": 3}), (f"{path}/release", {}))
    return got[1]


WRONG: dict[str, Asked] = {
    "id_in_use": closing_twice_at_once,
    "id_reused": reused,
    "hold_settled": lambda world: closed(world, "settle", "release"),
    "hold_released": lambda world: closed(world, "release", "settle"),
    "hold_expired": lambda world: closed(world, "lapse", "extend"),
    "not_found": lambda world: world.gate.send("GET", "/api/v1/holds/hold_0"),
    "meter_unknown": lambda world: ask_for(world, meter="api.cals"),
    "customer_unknown": lambda world: world.gate.check({**CALLS, "customer": "nobody"}),
    "quantity_invalid": lambda world: ask_for(world, quantity=1.5),
    "parameter_unknown": lambda world: ask_for(world, quntity=1),
    "parameter_missing": lambda world: world.check(mode="consume"),
    "parameter_invalid": lambda world: ask_for(world, mode="eat"),
    "too_many_items": lambda world: world.gate.check({"checks": [{}] * 1_001}),
    "time_out_of_range": lambda world: ask_for(world, time="2020-01-01T00:00:00Z"),
}


@pytest.mark.parametrize("code", WRONG)
def test_what_is_asked_wrongly(world: World, code: str) -> None:
    got = WRONG[code](world)
    kind = PROBLEM_TYPES[code]
    assert (got.status, got.body["code"], got.body["title"]) == (kind.status, code, kind.title)
    assert got.body["type"] == f"{BASE_URL}/docs/problems/{code}"
    assert got.body["detail"].endswith((".", "?"))
    assert got.headers["content-type"] == "application/problem+json"
    assert "retry-after" not in got.headers


def test_no_database_is_503_and_never_a_denial(world: World) -> None:
    away = GateProcess(deadline_s=0.3, address="host=/nonexistent dbname=none")
    away.key = world.gate.key
    try:
        got = [
            away.check({**CALLS, "key": world.key}),
            *away.together(*[("/api/v1/check", {**CALLS, "key": world.key})] * 5),
            away.send("GET", "/api/v1/holds/hold_0"),
            away.send("POST", "/api/v1/events", []),
            away.send("GET", "/api/v1/authorize", headers={"x-farebox-gateway": away.key}),
        ]
    finally:
        away.stop()
    for each in got:
        assert (each.status, each.body["code"]) == (503, "unavailable")
        assert each.headers["retry-after"] == "1"
