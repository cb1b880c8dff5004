"""What a denial says of other plans, from the plans on sale to the words of the gate."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from billing.models import Subscription
from billing.operations.overriding import end_override, override
from metering.domain.account import Account
from metering.domain.burndown import Deltas, use
from metering.domain.decisions import Allowed, Denied, Item, decide
from metering.domain.offers import Offer
from metering.domain.remedies import remedies
from metering.gate.catalogue import build_catalogue
from metering.models import Meter, Standing
from metering.models import Offer as OfferRow
from metering.queries.standing import account_of
from tests.factories.billing import ACTOR, NOW, a_plan, a_subscription, calls
from tests.factories.metering import make_meter

pytestmark = pytest.mark.django_db
SOON = NOW + timedelta(seconds=1)


@pytest.fixture
def meter() -> Meter:
    return make_meter()


@pytest.fixture
def subscription(meter: Meter) -> Subscription:
    """On a plan of 1,000 calls a month and ten a minute."""
    free = a_plan(*_calls(meter, 1_000, 10), {"feature": "sso", "type": "boolean"}, key="free")
    return a_subscription(free)


def _calls(meter: Meter, month: int, minute: int) -> list[dict[str, Any]]:
    rights = [calls(meter, included=month, price=None)]
    return [*rights, calls(meter, included=minute, price=None, window="minute")]


def on_sale() -> list[Offer]:
    """The plans as a gate reads them."""
    names = ("plan_key", "plan_name", "currency", "terms")
    stored = msgspec.json.encode(list(OfferRow.objects.order_by("rank", "id").values(*names)))
    return list(
        build_catalogue((1, None, stored, None, None, None, None, None), {}).offers_in("usd")
    )


def ways(of: Account, items: list[Item]) -> dict[str | None, bool]:
    """Which plans are named, and whether they would admit the call."""
    denied = decide(of, items, now=SOON, offers=on_sale())
    assert isinstance(denied, Denied)
    found = remedies(of, denied, items, now=SOON, offers=on_sale())
    return {each.plan: each.would_admit for each in found if each.action == "upgrade"}


def used(subscription: Subscription, meter: Meter, quantity: int) -> Account:
    """The customer after so many calls in this minute."""
    of = account_of(subscription.customer_id, now=SOON)
    use(of, Deltas(), meter_id=meter.id, quantity=quantity, at=SOON)
    return of


def test_a_plan_with_the_same_minute_admits_no_eleventh_call(
    meter: Meter, subscription: Subscription
) -> None:
    a_plan(*_calls(meter, 10_000, 10), key="pro", fee=100)
    assert ways(used(subscription, meter, 10), [Item("calls", meter.id, 1)]) == {"pro": False}
    a_plan(*_calls(meter, 10_000, 11), key="scale", fee=900)
    assert ways(used(subscription, meter, 10), [Item("calls", meter.id, 1)]) == {"scale": True}


def test_what_was_agreed_holds_on_the_next_plan_too(
    meter: Meter, subscription: Subscription
) -> None:
    a_plan(*_calls(meter, 10_000, 10), {"feature": "sso", "type": "boolean"}, key="pro", fee=100)
    a_plan(calls(meter, included=10_000, price=None), key="slow", fee=200)
    one = [Item("calls", meter.id, 1)]
    of = {"meter": meter.key, "included": 100, "window": "minute"}
    made = override(subscription.customer_id, terms=of, actor=ACTOR, now=NOW)
    assert ways(used(subscription, meter, 1_000), [Item("calls", meter.id, 1)])["pro"] is False
    assert isinstance(decide(used(subscription, meter, 99), one, now=SOON, offers=()), Allowed)
    eleven = used(subscription, meter, 0)
    use(eleven, Deltas(), meter_id=meter.id, quantity=990, at=SOON - timedelta(minutes=5))
    assert ways(eleven, [Item("calls", meter.id, 11)]) == {"pro": True, "slow": True}
    assert Standing.objects.get().agreed
    end_override(subscription.customer_id, override_id=made.id, actor=ACTOR, now=SOON)
    assert Standing.objects.get().agreed is None


def test_what_was_taken_away_is_sold_in_no_plan(meter: Meter, subscription: Subscription) -> None:
    a_plan(*_calls(meter, 10_000, 99), {"feature": "sso", "type": "boolean"}, key="pro", fee=100)
    customer_id = subscription.customer_id
    override(customer_id, terms={"feature": "sso", "denied": True}, actor=ACTOR, now=NOW)
    sso = [Item("sso", None, 0)]
    denied = decide(used(subscription, meter, 0), sso, now=SOON, offers=on_sale())
    assert isinstance(denied, Denied)
    assert denied.code == "not_entitled"


def test_a_price_that_was_agreed_is_told(meter: Meter, subscription: Subscription) -> None:
    price = {"model": "per_unit", "unit_price": "0.05"}
    override(
        subscription.customer_id, terms={"meter": meter.key, "price": price}, actor=ACTOR, now=NOW
    )
    stored: Any = Standing.objects.get().agreed
    (agreed,) = stored
    assert agreed["terms"]["over"] == "bill"
    assert agreed["terms"]["curve"]
    assert "price" not in agreed["terms"]


def test_offers_that_were_stored_before_are_read(meter: Meter) -> None:
    longest = {"included": 9, "unlimited": False, "over": "deny", "overage_limit": None}
    OfferRow.objects.create(
        plan_key="old",
        plan_name="Old",
        terms={"meters": {str(meter.id): {**longest, "window": "month"}}, "features": {}},
    )
    (offer,) = on_sale()
    assert [(each.window, each.included) for each in offer.meters[meter.id]] == [("month", 9)]
    assert offer.period == "month"
