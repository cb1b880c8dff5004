"""Until when a denied call is told to wait, and where it is not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import transaction

from accounts.operations.versions import bump
from metering.models import Entitlement
from tests.metering.gate.conftest import World, entitle, past
from tests.metering.gate.test_contract import CALLS, ask_for, read_limits

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_full_hour_hides_no_full_month(world: World) -> None:
    # Waiting for the next hour would admit nothing, so nobody is told to.
    entitle(world.customer, world.calls, included=5, window="hour", anchor_at=past(60))
    only = Entitlement.objects.filter(customer_id=world.customer.id, meter=world.calls)
    with transaction.atomic():
        bump(world.customer.id)
        only.filter(window="month").update(included=8)
    ask_for(world, id="a", quantity=4)
    got = ask_for(world, quantity=5)
    assert (got.status, got.body["code"], got.body["max_admissible"]) == (402, "quota_exhausted", 1)
    (wait,) = got.body["remedies"]
    assert (wait["action"], wait["would_admit"]) == ("wait", True)
    month = next(each for each in got.body["balances"] if each["window"] == "month")
    assert wait["at"] == month["resets_at"]
    assert int(got.headers["retry-after"]) > 3_600


def test_a_quantity_that_never_fits_is_not_to_be_asked_for_again(world: World) -> None:
    entitle(world.customer, world.calls, included=5, window="hour", anchor_at=past(60))
    ask_for(world, id="a", quantity=4)
    ask_for(world, id="b", quantity=4, time=past(7_200).isoformat())
    with transaction.atomic():
        bump(world.customer.id)
        Entitlement.objects.filter(window="month").update(included=8)
    got = ask_for(world, quantity=6)
    assert (got.status, got.body["code"], got.body["retry"]) == (402, "quota_exhausted", "never")
    assert got.body["remedies"] == []
    assert "retry-after" not in got.headers


def test_a_window_that_is_over_never_opens_for_its_time(world: World) -> None:
    entitle(world.customer, world.calls, included=2, window="hour", anchor_at=past(60))
    earlier = past(7_200).isoformat()
    assert ask_for(world, id="all", quantity=2, time=earlier).status == 200
    for mode in ("consume", "peek"):
        got = ask_for(world, mode=mode, id=None if mode == "peek" else "asked", time=earlier)
        assert (got.status, got.body["code"], got.body["retry"]) == (
            402, "quota_exhausted", "never",
        )  # fmt: skip
        assert got.body["remedies"] == []
        assert "retry-after" not in got.headers
        assert all("t" not in each.parameters for each in read_limits(got)[1])
    assert ask_for(world).status == 200


def test_of_several_holds_the_one_that_frees_enough_is_waited_for(world: World) -> None:
    def remedy() -> tuple[float, bool]:
        got = ask_for(world, quantity=500)
        assert (got.body["code"], got.body["retry"]) == ("in_flight", "after_in_flight")
        (wait,) = got.body["remedies"]
        at = datetime.fromisoformat(wait["at"])
        assert abs((at - datetime.now(UTC)).total_seconds() - int(got.headers["retry-after"])) < 3
        return round((at - datetime.now(UTC)).total_seconds(), -2), wait["would_admit"]

    ask_for(world, mode="hold", id="short", quantity=100, ttl=500)
    ask_for(world, mode="hold", id="long", quantity=900, ttl=2_000)
    assert remedy() == (2_000, True)
    with transaction.atomic():
        bump(world.customer.id)  # another gate wrote: which holds there are is not known here
    assert remedy() == (500, False)


def test_a_hold_that_was_released_in_the_same_batch_is_not_waited_for(world: World) -> None:
    hold = ask_for(world, mode="hold", id="one", quantity=600, ttl=500).body["hold"]["id"]
    ask_for(world, mode="hold", id="two", quantity=400, ttl=2_000)
    _, got = world.gate.together(
        (f"/api/v1/holds/{hold}/release", {}),
        ("/api/v1/check", {"key": world.key, **CALLS, "quantity": 700}),
    )
    (wait,) = got.body["remedies"]
    at = datetime.fromisoformat(wait["at"])
    assert (round((at - datetime.now(UTC)).total_seconds(), -2), wait["would_admit"]) == (
        2_000, True,
    )  # fmt: skip
