"""POST /check: what is answered, and that a denial moves nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from accounts.operations.versions import bump, bump_catalogue
from metering.domain.windows import RATE_UNITS, UNITS, anchored_window
from metering.models import Denial, Entitlement, Grant, UsageBatch, UsageEvent
from tests.metering.gate.client import BASE_URL, GateProcess, make_api_key
from tests.metering.gate.conftest import World, change, entitle, make_customer, past

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_peek_tells_the_balance_and_counts_nothing(world: World) -> None:
    before = world.state()

    got = world.check(quantity=10)

    assert got.status == 200
    assert got.body["allowed"] is True
    assert got.body["mode"] == "peek"
    assert got.body["plan"] == "free"
    assert got.body["customer"] == world.customer.public_id
    (balance,) = got.body["balances"]
    assert balance["meter"] == "api.calls"
    assert (balance["granted"], balance["used"], balance["remaining"]) == (1_000, 0, 1_000)
    assert got.headers["x-farebox-customer"] == world.customer.public_id
    assert got.headers["ratelimit-policy"] == '"api.calls.month";q=1000;w=2592000'
    assert got.headers["ratelimit"].startswith('"api.calls.month";r=1000;t=')
    assert world.state() == before


def test_a_consume_is_counted_once_and_a_repeat_gets_the_same_answer(world: World) -> None:
    first = world.check(mode="consume", id="call-1", quantity=3, properties={"model": "m"})
    again = world.check(mode="consume", id="call-1", quantity=3, properties={"model": "m"})

    assert first.status == again.status == 200
    assert first.body == again.body
    assert list(first.body["balances"][0]) == list(again.body["balances"][0])
    assert "farebox-replayed" not in first.headers
    assert again.headers["farebox-replayed"] == "true"
    assert first.body["balances"][0]["remaining"] == 997
    assert world.balance(world.calls) == (3, 0)
    event = UsageEvent.objects.get(customer_id=world.customer.id)
    assert (event.source, event.external_id, event.type) == ("edge-1", "call-1", "api.call")
    assert event.usage == {str(world.calls.id): 3}
    assert event.properties == {"model": "m"}
    (batch,) = UsageBatch.objects.all()
    ((customer_id, meter_id, _, dimensions, quantity, events),) = batch.deltas
    assert (customer_id, meter_id) == (world.customer.id, world.calls.id)
    assert (dimensions, quantity, events) == ({}, 3, 1)


def test_a_repeat_is_answered_as_before_when_nothing_is_left(world: World) -> None:
    first = world.check(mode="consume", id="call-1", quantity=600)
    held = world.check(mode="hold", id="call-2", quantity=400)
    before = world.state()

    calls = (("consume", "call-1", 600, first), ("hold", "call-2", 400, held))
    for mode, id_, quantity, once in calls:
        again = world.check(mode=mode, id=id_, quantity=quantity)
        assert (again.status, again.body) == (200, once.body)
        assert again.headers["farebox-replayed"] == "true"
    assert world.check(mode="consume", id="call-1", quantity=601).body["code"] == "id_reused"
    assert world.check(mode="consume", id="call-3").status == 429  # only the hold is in the way
    assert world.state() == before
    assert Denial.objects.count() == 1


def test_an_id_with_another_body_is_refused_and_counts_nothing(world: World) -> None:
    world.check(mode="consume", id="call-1", quantity=3)
    before = world.state()

    got = world.check(mode="consume", id="call-1", quantity=4)

    assert (got.status, got.body["code"], got.body["param"]) == (422, "id_reused", "id")
    assert world.state() == before


def test_the_same_id_from_another_source_is_another_call(world: World) -> None:
    world.check(mode="consume", id="call-1", source="a")
    world.check(mode="consume", id="call-1", source="b")

    assert world.balance(world.calls) == (2, 0)


def test_the_last_unit_is_admitted_and_the_next_is_not(world: World) -> None:
    assert world.check(mode="consume", id="most", quantity=999).status == 200
    assert world.check(mode="consume", id="last").body["balances"][0]["remaining"] == 0
    before = world.state()

    got = world.check(mode="consume", id="over")

    assert (got.status, got.body["code"], got.body["retry"]) == (
        402,
        "quota_exhausted",
        "after_reset",
    )
    assert got.body["type"] == f"{BASE_URL}/docs/problems/quota_exhausted"
    assert got.body["max_admissible"] == 0
    assert got.body["requested"] == 1
    assert got.body["detail"].startswith("1,000 of 1,000 api.calls are used until ")
    assert got.headers["cache-control"] == "no-store"
    assert int(got.headers["retry-after"]) > 0
    (wait,) = got.body["remedies"]
    assert (wait["action"], wait["would_admit"]) == ("wait", True)
    assert world.state() == before
    denial = Denial.objects.get(customer_id=world.customer.id)
    assert got.body["decision"] == got.headers["x-farebox-decision"]
    assert denial.problem["decision"] == got.body["decision"]


def test_a_denied_id_is_admitted_after_a_grant(world: World) -> None:
    world.check(mode="consume", id="all", quantity=1_000)
    assert world.check(mode="consume", id="next").status == 402

    with transaction.atomic():
        bump(world.customer.id)
        Grant.objects.create(
            customer_id=world.customer.id,
            meter=world.calls,
            quantity=5,
            effective_at=past(10),
            created_at=past(10),
        )

    got = world.check(mode="consume", id="next", quantity=2)
    assert got.status == 200
    assert got.body["balances"][0]["remaining"] == 3
    assert Grant.objects.get(customer_id=world.customer.id).used == 2
    event = UsageEvent.objects.get(customer_id=world.customer.id, external_id="next")
    assert event.paid_by is not None


def test_all_items_or_none(world: World) -> None:
    before = world.state()

    got = world.check(
        mode="consume",
        id="both",
        items=[{"meter": "api.calls"}, {"meter": "chat.tokens", "quantity": 5_001}],
    )
    assert (got.status, got.body["meter"]) == (402, "chat.tokens")
    assert got.body["max_admissible"] == 5_000
    assert world.state() == before

    got = world.check(
        mode="consume",
        id="both",
        items=[{"meter": "api.calls"}, {"meter": "chat.tokens", "quantity": 5_000}],
    )
    assert got.status == 200
    assert world.balance(world.calls) == (1, 0)
    assert world.balance(world.tokens) == (5_000, 0)


def test_overage_is_admitted_where_it_is_billed_up_to_its_limit(world: World) -> None:
    customer = make_customer(plan_key="pro")
    entitle(customer, world.calls, included=10, over="bill", overage_limit=5)
    key = make_api_key(customer)

    got = world.gate.check(
        {"key": key, "meter": "api.calls", "mode": "consume", "id": "a", "quantity": 13}
    )
    assert got.status == 200
    (balance,) = got.body["balances"]
    assert (balance["remaining"], balance["overage"], balance["overage_limit"]) == (0, 3, 5)

    got = world.gate.check(
        {"key": key, "meter": "api.calls", "mode": "consume", "id": "b", "quantity": 3}
    )
    assert (got.status, got.body["code"]) == (402, "spend_limit_reached")
    assert got.body["max_admissible"] == 2


def test_a_full_minute_is_429_and_says_when(world: World) -> None:
    entitle(world.customer, world.calls, included=2, window="minute", anchor_at=past(3_600))
    world.check(mode="consume", id="1", quantity=2)

    got = world.check(mode="consume", id="2")

    assert (got.status, got.body["code"], got.body["retry"]) == (
        429,
        "rate_exceeded",
        "after_reset",
    )
    assert 1 <= int(got.headers["retry-after"]) <= 61
    assert {balance["window"] for balance in got.body["balances"]} == {"minute", "month"}


@pytest.mark.parametrize("window", UNITS)
def test_a_window_of_any_length_is_full_until_its_end(world: World, window: str) -> None:
    # A minute, and an hour, of this anchor has just begun.
    anchor_at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=40)
    Entitlement.objects.filter(customer_id=world.customer.id).delete()
    entitle(world.customer, world.calls, included=2, window=window, anchor_at=anchor_at)
    assert world.check(mode="consume", id="1", quantity=2).status == 200

    got = world.check(mode="consume", id="2")

    _, end_at = anchored_window(anchor_at, unit=window, at=datetime.now(UTC))
    (balance,) = got.body["balances"]
    assert (balance["used"], balance["remaining"]) == (2, 0)
    if window in RATE_UNITS:
        assert (got.status, got.body["code"]) == (429, "rate_exceeded")
    elif window == "lifetime":
        assert (got.status, got.body["code"]) == (402, "credits_exhausted")
    else:
        assert (got.status, got.body["code"]) == (402, "quota_exhausted")
    ends = None if window == "lifetime" else end_at
    assert (balance["resets_at"] and datetime.fromisoformat(balance["resets_at"])) == ends
    assert UsageEvent.objects.count() == 1


@pytest.mark.parametrize(
    ("standing", "status", "code", "actions"),
    [
        (
            {"deny_code": "payment_failed", "invoice_url": "https://pay.test/1"},
            402,
            "payment_failed",
            {"pay_invoice": True, "update_payment_method": True},
        ),
        ({"deny_code": "trial_ended"}, 402, "trial_ended", {"update_payment_method": True}),
        ({"deny_code": "subscription_inactive"}, 402, "subscription_inactive", {}),
        (
            {"deny_code": "payment_method_missing"},
            402,
            "payment_method_missing",
            {"update_payment_method": True},
        ),
        ({"deny_code": "payment_action_required"}, 402, "payment_action_required", {}),
    ],
)
def test_standing_decides_from_its_moment_on(
    world: World, standing: dict[str, str], status: int, code: str, actions: dict[str, bool]
) -> None:
    change(world.customer, **standing, deny_at=datetime.now(UTC) + timedelta(hours=1))
    assert world.check().status == 200

    change(world.customer, deny_at=past(1))
    before = world.state()
    got = world.check(mode="consume", id="x")
    assert (got.status, got.body["code"]) == (status, code)
    assert {each["action"]: each["would_admit"] for each in got.body["remedies"]} == actions
    assert "retry-after" not in got.headers
    assert world.state() == before

    change(world.customer, deny_code="", deny_at=None)
    assert world.check(mode="consume", id="x").status == 200


def test_a_customer_to_whom_nothing_was_sold(world: World) -> None:
    from tests.factories.metering import make_customer as bare

    customer = bare(external_id="bare")
    got = world.gate.check({"customer": "bare", "meter": "api.calls"})
    assert (got.status, got.body["code"]) == (402, "no_subscription")
    assert got.body["customer"] == customer.public_id


def test_a_suspended_customer(world: World) -> None:
    with transaction.atomic():
        bump(world.customer.id)
        world.customer.suspended_at = datetime.now(UTC)
        world.customer.save()

    got = world.check()
    assert (got.status, got.body["code"], got.body["remedies"]) == (403, "customer_suspended", [])


def test_boolean_and_static_entitlements(world: World) -> None:
    with transaction.atomic():
        bump(world.customer.id)
        bump_catalogue()
        for fields in (
            {"kind": "boolean", "feature": "sso"},
            {"kind": "static", "feature": "region", "value": "eu"},
        ):
            Entitlement.objects.create(
                customer_id=world.customer.id, anchor_at=past(1), starts_at=past(1), **fields
            )

    assert world.check(meter="sso").status == 200
    assert world.check(meter="region").body["value"] == "eu"
    got = world.check(meter="sso", quantity=1)
    assert (got.status, got.body["code"]) == (422, "quantity_invalid")


def test_a_batch_of_checks_has_a_fate_each(world: World) -> None:
    key = world.key
    got = world.gate.check(
        {
            "checks": [
                {"key": key, "meter": "api.calls", "mode": "consume", "id": "1", "quantity": 600},
                {"key": key, "meter": "api.calls", "mode": "consume", "id": "2", "quantity": 600},
                {"key": key, "meter": "nothing"},
                {"key": key, "meter": "api.calls", "quantity": "x"},
                {"key": key, "meter": "api.calls", "properties": {"user": "\0"}},
                {"key": key, "meter": "api.calls", "mode": "consume", "id": "3", "quantity": 400},
            ]
        }
    )

    assert got.status == 200
    assert [each["status"] for each in got.body["results"]] == [200, 402, 422, 422, 422, 200]
    assert world.balance(world.calls) == (1_000, 0)
    too_many = world.gate.check({"checks": [{}] * 1_001})
    assert (too_many.status, too_many.body["code"]) == (422, "too_many_items")


def test_a_concurrent_twin_gets_the_first_ones_answer(world: World) -> None:
    body = {"key": world.key, "meter": "api.calls", "mode": "consume", "id": "twin"}
    got = world.gate.together(*[("/api/v1/check", body)] * 8)

    assert {each.status for each in got} == {200}
    assert len({str(each.body) for each in got}) == 1
    assert world.balance(world.calls) == (1, 0)


def test_usage_of_another_time_counts_in_its_own_window(world: World) -> None:
    earlier = datetime.now(UTC) - timedelta(days=40)
    got = world.check(mode="consume", id="late", quantity=7, time=earlier.isoformat())

    assert got.status == 200
    assert world.check().body["balances"][0]["used"] == 0
    assert world.balance(world.calls) == (7, 0)


def test_a_poisoned_call_fails_alone(world: World, gate: GateProcess) -> None:
    # The whole balance is past what a bigint sums up to: PostgreSQL refuses the write.
    from metering.models import Balance

    poisoned = make_customer()
    entitle(poisoned, world.calls, included=10**18)
    key = make_api_key(poisoned)
    body = {"key": key, "meter": "api.calls", "mode": "consume", "id": "1"}
    assert gate.check(body).status == 200
    Balance.objects.filter(customer_id=poisoned.id).update(used=2**63 - 1)
    with transaction.atomic():
        bump(poisoned.id)
        Entitlement.objects.filter(customer_id=poisoned.id).update(unlimited=True)

    got = gate.together(
        ("/api/v1/check", {**body, "id": "2"}),
        *(
            ("/api/v1/check", {"key": world.key, "meter": "api.calls", "mode": "consume", "id": n})
            for n in "abcdef"
        ),
    )

    assert [each.status for each in got] == [500] + [200] * 6
    assert got[0].body["code"] == "internal_error"
    assert world.balance(world.calls) == (6, 0)


def test_more_than_the_queue_holds_is_503(world: World) -> None:
    small = GateProcess(queue=4)
    small.key = world.gate.key
    try:
        body = {"key": world.key, "meter": "api.calls"}
        got = small.together(*[("/api/v1/check", body)] * 64)
    finally:
        small.stop()
    statuses = [each.status for each in got]
    assert statuses.count(200) >= 4
    assert set(statuses) == {200, 503}
    refused = next(each for each in got if each.status == 503)
    assert refused.body["code"] == "overloaded"
    assert refused.headers["retry-after"] == "1"
