"""A denial names the plans that would admit the call, and no others."""

from __future__ import annotations

import pytest
from django.db import transaction

from accounts.models import Customer
from accounts.operations.versions import bump, bump_catalogue
from metering.models import Meter, Offer
from tests.metering.gate.client import BASE_URL
from tests.metering.gate.conftest import World, change, entitle, past

pytestmark = pytest.mark.django_db(transaction=True)


def test_what_is_sold_in_another_plan_and_what_in_none(world: World) -> None:
    images = Meter.objects.create(
        key="images", event_type="image", aggregation="count", created_at=past(1)
    )
    Meter.objects.create(key="video", event_type="v", aggregation="count", created_at=past(1))
    with transaction.atomic():
        terms = {"included": 10, "unlimited": False, "over": "deny", "overage_limit": None}
        meters = {str(images.id): {**terms, "window": "month"}}
        Offer.objects.create(
            plan_key="scale", plan_name="Scale", terms={"meters": meters, "features": {"sso": None}}
        )
        bump_catalogue()

    got = world.check(meter="images", quantity=10)
    assert (got.status, got.body["code"]) == (402, "not_in_plan")
    (remedy,) = got.body["remedies"]
    assert (remedy["action"], remedy["plan"], remedy["would_admit"]) == ("upgrade", "scale", True)
    assert remedy["href"] == f"{BASE_URL}/portal/plans/scale"
    assert world.check(meter="images", quantity=11).body["remedies"][0]["would_admit"] is False
    assert world.check(meter="sso").body["code"] == "not_in_plan"
    got = world.check(meter="video")
    assert (got.status, got.body["code"]) == (403, "not_entitled")


def test_plans_of_another_currency_are_no_way_out(world: World) -> None:
    with transaction.atomic():
        terms = {"unlimited": False, "over": "deny", "overage_limit": None, "window": "month"}
        for plan, currency, included in (
            ("pro", "usd", 10),
            ("pro", "eur", 1),
            ("ours", "eur", 10),
        ):
            meters = {str(world.calls.id): {**terms, "included": included * 1_000}}
            Offer.objects.create(
                plan_key=plan,
                plan_name=plan,
                currency=currency,
                rank=included,
                terms={"meters": meters, "features": {}},
            )
        Customer.objects.update(currency="eur")
        bump(world.customer.id)
        bump_catalogue()
    world.check(mode="consume", id="all", quantity=1_000)
    denied = world.check(mode="consume", id="more")
    ways = denied.body["remedies"]
    upgrades = [each["plan"] for each in ways if each["action"] == "upgrade"]
    assert upgrades == ["ours"], denied.body


def test_an_upgrade_that_would_admit_comes_with_the_denial(world: World) -> None:
    with transaction.atomic():
        terms = {"unlimited": False, "over": "deny", "overage_limit": None, "window": "month"}
        for rank, (plan, included) in enumerate({"starter": 1_000, "pro": 10_000}.items()):
            meters = {str(world.calls.id): {**terms, "included": included}}
            Offer.objects.create(
                plan_key=plan, plan_name=plan, rank=rank, terms={"meters": meters, "features": {}}
            )
        bump_catalogue()
    world.check(mode="consume", id="all", quantity=1_000)

    got = world.check(mode="consume", id="one more")

    upgrades = [each for each in got.body["remedies"] if each["action"] == "upgrade"]
    assert [(each["plan"], each["would_admit"]) for each in upgrades] == [("pro", True)]


def test_all_windows_of_a_plan_count_and_what_was_agreed_with_the_customer(world: World) -> None:
    entitle(world.customer, world.calls, included=10, window="hour", anchor_at=past(60))
    with transaction.atomic():
        terms = {"unlimited": False, "over": "deny", "overage_limit": None}
        month = {**terms, "included": 10_000, "window": "month"}
        month["also"] = [{**terms, "included": 10, "window": "hour"}]
        meters = {str(world.calls.id): month}
        Offer.objects.create(plan_key="pro", plan_name="Pro", terms={"meters": meters})
        bump_catalogue()
    world.check(mode="consume", id="all", quantity=10)

    def upgrade() -> bool:
        got = world.check(mode="consume", id="one more")
        assert (got.status, got.body["code"]) == (429, "rate_exceeded")
        ways = {each["action"]: each["would_admit"] for each in got.body["remedies"]}
        assert ways["wait"] is True
        return bool(ways["upgrade"])

    assert upgrade() is False
    # Billing would tell the right itself with it; without that only the other plan's is otherwise.
    agreed = {"feature": "", "denied": False, "terms": {"included": 11, "window": "hour"}}
    change(world.customer, agreed=[{"meter": world.calls.id, **agreed}])
    assert upgrade() is True
