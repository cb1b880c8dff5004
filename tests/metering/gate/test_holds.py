"""Holds: reserve an estimate, settle what was used; everything once, whatever is repeated."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction

from accounts.operations.versions import bump
from metering.gate import engine
from metering.models import Grant, Hold, UsageEvent
from tests.metering.gate.books import broken
from tests.metering.gate.client import Got
from tests.metering.gate.conftest import World, entitle, make_customer, past

pytestmark = pytest.mark.django_db(transaction=True)


def hold(world: World, quantity: int = 1_000, *, id_: str = "llm-1", ttl: int = 60) -> str:
    """The id of a new hold of chat.tokens."""
    got = world.check(meter="chat.tokens", mode="hold", id=id_, quantity=quantity, ttl=ttl)
    assert got.status == 200, got.body
    return str(got.body["hold"]["id"])


def close(world: World, hold_id: str, action: str, body: Any = None) -> Got:
    """POST one of the closings."""
    return world.gate.send("POST", f"/api/v1/holds/{hold_id}/{action}", body)


def lapse(hold_id: str) -> None:
    """Let a hold's time be over, as if it had passed."""
    for row in Hold.objects.all():
        with transaction.atomic():
            bump(row.customer_id)
            Hold.objects.filter(pk=row.pk).update(expires_at=past(1))


def test_a_hold_reserves_and_its_settle_frees_the_rest_at_once(world: World) -> None:
    hold_id = hold(world, 4_000)
    assert world.balance(world.tokens) == (0, 4_000)
    got = world.check(meter="chat.tokens", quantity=1_001)
    assert (got.status, got.body["code"], got.body["retry"]) == (
        429,
        "in_flight",
        "after_in_flight",
    )

    got = close(world, hold_id, "settle", {"quantity": 1_200, "properties": {"model": "m-1"}})

    assert got.status == 200
    assert got.body["hold"]["state"] == "settled"
    assert (got.body["over_hold"], got.body["late"]) == (False, False)
    assert got.body["balances"][0]["remaining"] == 3_800
    assert world.balance(world.tokens) == (1_200, 0)
    event = UsageEvent.objects.get(customer_id=world.customer.id)
    assert event.from_hold
    assert event.external_id == "llm-1"
    assert event.usage == {str(world.tokens.id): 1_200}
    assert event.properties == {"model": "m-1"}


def test_settling_twice_answers_as_the_first_time(world: World) -> None:
    hold_id = hold(world)
    first = close(world, hold_id, "settle", {"quantity": 700})
    again = close(world, hold_id, "settle", {"quantity": 700})

    assert first.body == again.body
    assert again.headers["farebox-replayed"] == "true"
    assert world.balance(world.tokens) == (700, 0)

    other = close(world, hold_id, "settle", {"quantity": 701})
    assert (other.status, other.body["code"]) == (422, "id_reused")
    refused = close(world, hold_id, "release")
    assert (refused.status, refused.body["code"]) == (409, "hold_settled")
    assert world.balance(world.tokens) == (700, 0)


def test_a_repeated_hold_is_the_same_hold(world: World) -> None:
    assert hold(world) == hold(world)
    assert world.balance(world.tokens) == (0, 1_000)
    assert Hold.objects.count() == 1


def test_more_than_was_held_is_charged_and_flagged(world: World) -> None:
    got = close(world, hold(world, 100), "settle", {"quantity": 6_000})

    assert got.body["over_hold"] is True
    assert world.balance(world.tokens) == (6_000, 0)
    assert got.body["balances"][0]["overage"] == 1_000
    assert world.check(meter="chat.tokens").status == 402


def test_nothing_was_used(world: World) -> None:
    got = close(world, hold(world), "settle", {"quantity": 0})
    assert got.status == 200
    assert world.balance(world.tokens) == (0, 0)


def test_release_frees_all_and_settle_is_refused_after_it(world: World) -> None:
    hold_id = hold(world)
    got = close(world, hold_id, "release")
    assert got.body["hold"]["state"] == "released"
    assert world.balance(world.tokens) == (0, 0)
    assert close(world, hold_id, "release", {}).headers["farebox-replayed"] == "true"

    got = close(world, hold_id, "settle", {"quantity": 5})
    assert (got.status, got.body["code"]) == (409, "hold_released")
    assert world.balance(world.tokens) == (0, 0)


def test_a_forgotten_hold_frees_itself_when_the_gate_meets_it(world: World) -> None:
    hold_id = hold(world, 5_000)
    lapse(hold_id)

    got = world.check(meter="chat.tokens", mode="consume", id="next", quantity=5_000)

    assert got.status == 200
    assert world.balance(world.tokens) == (5_000, 0)
    assert Hold.objects.get().state == "expired"


@pytest.mark.parametrize("expired", [4, 5, 6])
def test_more_forgotten_holds_than_one_write_gives_back_are_all_free(
    world: World, monkeypatch: pytest.MonkeyPatch, expired: int
) -> None:
    monkeypatch.setattr(engine, "EXPIRED_AT_ONCE", 2)
    each = 5_000 // expired
    hold_ids = [hold(world, each, id_=f"llm-{n}") for n in range(expired)]
    other = make_customer()
    entitle(other, world.tokens, included=10)
    asked = {"meter": "chat.tokens", "mode": "consume"}
    lapse(hold_ids[0])

    mine, theirs, late, peek = world.gate.together(
        ("/api/v1/check", {"key": world.key, "id": "next", "quantity": 5_000 - each, **asked}),
        ("/api/v1/check", {"customer": other.public_id, "id": "n", "quantity": 10, **asked}),
        (f"/api/v1/holds/{hold_ids[-1]}/settle", {"quantity": each}),
        ("/api/v1/check", {"key": world.key, "meter": "chat.tokens"}),
    )

    assert [got.status for got in (mine, theirs, late)] == [200] * 3, (mine.body, late.body)
    assert late.body["late"] is True
    assert peek.body["code"] == "quota_exhausted" or peek.status == 200
    assert world.balance(world.tokens) == (5_000, 0)
    states = Hold.objects.values_list("state", flat=True)
    assert sorted(states) == ["expired"] * (expired - 1) + ["settled"]
    assert broken(world.customer.id, other.id) == []


def test_a_settle_after_expiry_still_counts(world: World) -> None:
    hold_id = hold(world)
    lapse(hold_id)
    assert world.check(meter="chat.tokens").body["balances"][0]["held"] == 0  # swept on the way

    got = close(world, hold_id, "settle", {"quantity": 800})

    assert (got.status, got.body["late"]) == (200, True)
    assert world.balance(world.tokens) == (800, 0)
    assert UsageEvent.objects.get().late
    assert Hold.objects.get().state == "settled"


def test_a_settle_meets_its_own_expiry(world: World) -> None:
    hold_id = hold(world)
    lapse(hold_id)

    got = close(world, hold_id, "settle", {"quantity": 800})

    assert (got.status, got.body["late"]) == (200, True)
    assert world.balance(world.tokens) == (800, 0)


def test_extending(world: World) -> None:
    hold_id = hold(world, ttl=5)
    got = close(world, hold_id, "extend", {"ttl": 600})
    assert got.status == 200
    until = datetime.fromisoformat(got.body["hold"]["expires_at"])
    assert until > datetime.now(UTC) + timedelta(seconds=500)
    shorter = close(world, hold_id, "extend", {"ttl": 1})
    assert shorter.body["hold"]["expires_at"] == got.body["hold"]["expires_at"]
    read = world.gate.send("GET", f"/api/v1/holds/{hold_id}")
    assert read.body["hold"]["state"] == "open"

    lapse(hold_id)
    refused = close(world, hold_id, "extend", {"ttl": 60})
    assert (refused.status, refused.body["code"]) == (409, "hold_expired")
    assert world.gate.send("GET", f"/api/v1/holds/{hold_id}").body["hold"]["state"] == "expired"


def test_what_a_grant_paid_returns_to_it(world: World) -> None:
    with transaction.atomic():
        bump(world.customer.id)
        for id_, quantity, priority in ((1, 300, 1), (2, 900, 5)):
            Grant.objects.create(
                customer_id=world.customer.id,
                id=id_,
                meter=world.tokens,
                quantity=quantity,
                priority=priority,
                effective_at=past(9),
                created_at=past(9),
            )

    def grants() -> list[tuple[int, int]]:
        rows = Grant.objects.filter(customer_id=world.customer.id).order_by("id")
        return [(row.used, row.held) for row in rows]

    hold_id = hold(world, 5_500)
    assert grants() == [(0, 300), (0, 200)]
    close(world, hold_id, "settle", {"quantity": 5_100})
    assert grants() == [(100, 0), (0, 0)]
    close(world, hold(world, 1_000, id_="b"), "release")
    assert grants() == [(100, 0), (0, 0)]
    got = world.check(meter="chat.tokens", quantity=1_101)
    assert got.body["max_admissible"] == 1_100


TWICE_ONCE_WITHOUT = [{"meter": "chat.tokens", "quantity": 1}, {"meter": "chat.tokens"}]


@pytest.mark.parametrize(
    ("action", "body", "status", "code"),
    [
        ("settle", {}, 422, "parameter_missing"),
        ("settle", {"quantity": -1}, 422, "quantity_invalid"),
        ("settle", {"quantity": 1, "items": [{"meter": "chat.tokens"}]}, 422, "parameter_invalid"),
        ("settle", {"items": [{"meter": "api.calls", "quantity": 1}]}, 422, "meter_unknown"),
        ("settle", {"items": [{"meter": "chat.tokens"}]}, 422, "parameter_missing"),
        ("settle", {"items": TWICE_ONCE_WITHOUT}, 422, "parameter_missing"),
        ("settle", {"quality": 1}, 422, "parameter_unknown"),
        ("extend", {"ttl": 100_000}, 422, "parameter_invalid"),
        ("release", {"why": 1}, 422, "parameter_unknown"),
        ("settle", b"{", 400, "body_malformed"),
    ],
)
def test_closings_that_are_asked_wrongly(
    world: World, action: str, body: Any, status: int, code: str
) -> None:
    hold_id = hold(world)
    before = world.state()
    got = close(world, hold_id, action, body)
    assert (got.status, got.body["code"]) == (status, code)
    assert world.state() == before


def test_holds_that_do_not_exist(world: World) -> None:
    real = hold(world)
    other = real[:-4] + ("0000" if not real.endswith("0000") else "1111")
    for hold_id in ("hold_nonsense", other):
        got = close(world, hold_id, "settle", {"quantity": 1})
        assert (got.status, got.body["code"]) == (404, "not_found")
    assert world.gate.send("GET", f"/api/v1/holds/{real}/settle").status == 405
    assert world.gate.send("POST", f"/api/v1/holds/{real}/eat", {}).status == 404


def test_several_items_are_settled_each(world: World) -> None:
    got = world.check(
        mode="hold",
        id="both",
        items=[{"meter": "api.calls"}, {"meter": "chat.tokens", "quantity": 900}],
    )
    hold_id = got.body["hold"]["id"]
    refused = close(world, hold_id, "settle", {"quantity": 1})
    assert (refused.status, refused.body["code"]) == (422, "parameter_missing")

    items = [{"meter": "api.calls", "quantity": 1}, {"meter": "chat.tokens", "quantity": 450}]
    assert close(world, hold_id, "settle", {"items": items}).status == 200
    assert world.balance(world.calls) == (1, 0)
    assert world.balance(world.tokens) == (450, 0)


def test_two_settles_at_the_same_moment_count_once(world: World) -> None:
    hold_id = hold(world)
    path = f"/api/v1/holds/{hold_id}/settle"
    got = world.gate.together(*[(path, {"quantity": 600})] * 6)

    assert {each.status for each in got} == {200}
    assert len({str(each.body) for each in got}) == 1
    other = world.gate.together(
        (path, {"quantity": 600}), (path.replace("settle", "release"), None)
    )
    assert [each.status for each in other] == [200, 409]
    assert world.balance(world.tokens) == (600, 0)
    assert UsageEvent.objects.count() == 1


def test_a_settle_names_each_meter_once(world: World) -> None:
    hold_id = hold(world, 4_000)
    before = world.state()
    twice = [{"meter": "chat.tokens", "quantity": n} for n in (5, 3)]

    got = close(world, hold_id, "settle", {"items": twice})

    assert (got.status, got.body["code"], got.body["param"]) == (422, "parameter_invalid", "items")
    assert world.state() == before


def test_an_event_settles_a_hold_that_is_extended_at_the_same_moment(world: World) -> None:
    hold_id = hold(world, 1_000)
    event = {
        "specversion": "1.0",
        "id": "usage-1",
        "source": "app",
        "type": "llm.completion",
        "subject": world.customer.public_id,
        "data": {"tokens": 700, "hold": hold_id},
    }

    extended, reported = world.gate.together(
        (f"/api/v1/holds/{hold_id}/extend", {"ttl": 600}), ("/api/v1/events", [event])
    )

    assert (extended.status, reported.body["accepted"]) == (200, 1)
    assert world.balance(world.tokens) == (700, 0)


def test_an_event_of_a_hold_that_is_released_at_the_same_moment_is_refused(world: World) -> None:
    hold_id = hold(world, 1_000)
    event = {
        "specversion": "1.0",
        "id": "usage-1",
        "source": "app",
        "type": "llm.completion",
        "subject": world.customer.public_id,
        "data": {"tokens": 700, "hold": hold_id},
    }

    released, reported = world.gate.together(
        (f"/api/v1/holds/{hold_id}/release", None), ("/api/v1/events", [event])
    )

    assert released.status == 200
    assert [each["code"] for each in reported.body["rejected"]] == ["hold_released"]
    assert world.balance(world.tokens) == (0, 0)
