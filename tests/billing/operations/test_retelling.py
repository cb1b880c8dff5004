"""billing.operations.retelling: what an earlier version told otherwise is told anew."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction

from accounts.models import CatalogueVersion, CustomerVersion
from billing.models import Subscription
from billing.operations import catalogue
from billing.operations.overriding import override
from billing.operations.retelling import retell_agreed, retell_offers
from billing.tasks import retell_terms
from metering.models import Meter, Offer, Standing
from tests.factories.billing import ACTOR, NOW, a_plan, a_subscription, calls
from tests.factories.metering import make_customer, make_meter
from tests.factories.threads import someone_waits_for_me

pytestmark = pytest.mark.django_db
SOON = NOW + timedelta(seconds=1)
PER_CALL = {"model": "per_unit", "unit_price": "0.05"}


@pytest.fixture
def meter() -> Meter:
    return make_meter()


def offered() -> list[Any]:
    """What metering was told, without when."""
    return list(Offer.objects.order_by("plan_key").values_list("plan_key", "rank", "terms"))


def versions() -> list[Any]:
    """By which a gate sees that something is otherwise."""
    return [*CatalogueVersion.objects.values_list(), *CustomerVersion.objects.values_list()]


def agree_untold(subscription: Subscription) -> None:
    """Leave an agreement as an earlier version left it: billing knows it, metering was not told."""
    override(
        subscription.customer_id, terms={"feature": "beta"}, actor=ACTOR, now=subscription.start_at
    )
    Standing.objects.filter(customer_id=subscription.customer_id).update(agreed=None)


def test_offers_that_were_published_otherwise_are_published_anew(meter: Meter) -> None:
    minute = {"meter": meter.key, "type": "metered", "included": 9, "window": "minute"}
    a_plan(calls(meter, price=PER_CALL), minute, key="pro")
    a_plan(calls(meter), key="scale", fee=900)
    right = offered()
    terms: dict[str, Any]
    for terms in ({"meters": {}}, {**right[0][2], "period": "year"}):
        Offer.objects.filter(plan_key="pro").update(terms=terms)
        assert retell_offers()
        assert offered() == right
    Offer.objects.filter(plan_key="scale").delete()
    assert retell_offers()
    assert offered() == right

    before = versions()
    assert not retell_offers()
    assert versions() == before


def test_what_was_agreed_before_it_was_told_is_told(meter: Meter) -> None:
    plan = a_plan(calls(meter, price=None))
    for subscription in [a_subscription(plan, customer=make_customer()) for _ in range(3)]:
        agree_untold(subscription)
        override(subscription.customer_id, terms={"feature": "alpha"}, actor=ACTOR, now=NOW)
        Standing.objects.update(agreed=None)
    a_subscription(plan, customer=make_customer())  # with whom nothing was agreed

    assert [retell_agreed(now=SOON, limit=2), retell_agreed(now=SOON, limit=2)] == [2, 1]

    told = Standing.objects.values_list("agreed", flat=True)
    assert sorted(len(each or ()) for each in told) == [0, 2, 2, 2]
    before = versions()
    assert retell_agreed(now=SOON, limit=2) == 0
    assert versions() == before


def test_one_that_cannot_be_told_keeps_no_other_from_its_turn(meter: Meter) -> None:
    plan = a_plan(calls(meter, price=None))
    bad, good = (a_subscription(plan, customer=make_customer()) for _ in range(2))
    for subscription in (bad, good):
        agree_untold(subscription)
    CustomerVersion.objects.filter(customer=bad.customer).delete()  # nothing can be told without

    assert retell_agreed(now=SOON, limit=1) == 1

    assert Standing.objects.get(customer=good.customer).agreed
    assert not Standing.objects.get(customer=bad.customer).agreed


def test_an_agreement_that_holds_not_yet_or_no_more_and_without_a_subscription_waits(
    meter: Meter,
) -> None:
    subscription = a_subscription(a_plan(calls(meter, price=None)))
    override(
        subscription.customer_id,
        terms={"feature": "beta"},
        starts_at=NOW + timedelta(days=1),
        ends_at=NOW + timedelta(days=2),
        actor=ACTOR,
        now=NOW,
    )
    without = make_customer()
    override(without.id, terms={"feature": "beta"}, actor=ACTOR, now=NOW)
    Standing.objects.update_or_create(customer=without, defaults={"updated_at": NOW})
    assert not Standing.objects.exclude(agreed=None).exists()
    for now in (SOON, NOW + timedelta(days=2)):
        assert retell_agreed(now=now, limit=9) == 0


def test_the_beat_has_both_told(meter: Meter) -> None:
    subscription = a_subscription(a_plan(calls(meter, price=None)))
    agree_untold(subscription)
    right = offered()
    Offer.objects.all().delete()
    retell_terms()
    assert offered() == right
    assert Standing.objects.get().agreed


@pytest.mark.django_db(transaction=True)
def test_plans_that_are_put_on_sale_at_once_are_all_offered() -> None:
    drafts = [a_plan(key=key, activate=False) for key in ("one", "two")]

    def put_on_sale(version_id: int) -> None:
        try:
            catalogue.activate(version_id, actor=ACTOR, now=NOW)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic():
            catalogue.activate(drafts[0].id, actor=ACTOR, now=NOW)
            other = thread.submit(put_on_sale, drafts[1].id)
            while not someone_waits_for_me():
                assert not other.done()
                time.sleep(0.01)
        other.result(30)

    assert [key for key, *_ in offered()] == ["one", "two"]
