"""Visits to Checkout lead to what they were for, once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from billing.domain.plan_changes import PlanChangeRefused
from billing.models import CheckoutSession, PlanVersion, Subscription
from billing.operations import catalogue, changing, checkout, collecting
from billing.queries.catalogue import CurrencyUnfit, PlanUnknown
from billing.queries.subscriptions import current_subscription
from metering.models import Standing
from tests.factories.accounts import a_customer
from tests.factories.billing import ACTOR, NOW, a_plan, a_subscription, bill, fresh, give_card

pytestmark = pytest.mark.django_db

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def begin(customer_id: int, plan: str | None = None, now: datetime = NOW) -> CheckoutSession:
    return checkout.begin_checkout(customer_id, plan=plan, actor=ACTOR, now=now)


@pytest.fixture
def free() -> PlanVersion:
    return a_plan(fee=0, key="free")


@pytest.fixture
def pro() -> PlanVersion:
    return a_plan(fee=2_000, key="pro")


def test_new_customer_subscribes_once(pro: PlanVersion) -> None:
    customer = a_customer()
    visit = begin(customer.id, "pro")
    assert (visit.status, visit.version) == ("pending", pro)
    give_card(customer, now=NOW)
    for _ in range(2):
        checkout.complete_checkout(visit.id, now=NOW + timedelta(minutes=5))
    subscription = Subscription.objects.get()
    assert (subscription.status, subscription.version) == ("active", pro)
    assert fresh(visit).completed_at == NOW + timedelta(minutes=5)
    assert Standing.objects.get().deny_at is None


def test_upgrade_counts_from_the_visit_on(free: PlanVersion, pro: PlanVersion) -> None:
    subscription = a_subscription(free, card=False)
    visit = begin(subscription.customer_id, "pro")
    give_card(subscription.customer, now=NOW)
    checkout.complete_checkout(visit.id, now=NOW)
    assert fresh(subscription).version == pro


def test_incomplete_subscription_begins(pro: PlanVersion) -> None:
    subscription = a_subscription(pro, card=False)
    visit = begin(subscription.customer_id, "pro")
    give_card(subscription.customer, now=NOW)
    checkout.complete_checkout(visit.id, now=NOW)
    assert fresh(subscription).status == "active"


def test_card_alone_changes_no_plan(pro: PlanVersion) -> None:
    subscription = a_subscription(pro)
    visit = begin(subscription.customer_id)
    checkout.complete_checkout(visit.id, now=NOW)
    assert fresh(subscription).version == pro
    assert fresh(visit).status == "complete"


def test_without_the_payment_method_it_is_not_complete(free: PlanVersion, pro: PlanVersion) -> None:
    subscription = a_subscription(free, card=False)
    visit = begin(subscription.customer_id, "pro")
    with pytest.raises(changing.PaymentMethodNeeded):
        checkout.complete_checkout(visit.id, now=NOW)
    assert fresh(visit).status == "pending"
    assert fresh(subscription).version == free


def test_open_visit_is_given_again_for_as_long_as_its_page_lives(pro: PlanVersion) -> None:
    customer = a_customer()
    visit = begin(customer.id, "pro")
    assert begin(customer.id, "pro") == visit
    assert begin(customer.id) != visit
    assert begin(customer.id, "pro", NOW + DAY) != visit


def test_expired_visit_can_still_have_been_completed(pro: PlanVersion) -> None:
    customer = a_customer()
    visit = begin(customer.id, "pro")
    for _ in range(2):
        checkout.expire_checkout(visit.id, now=NOW)
    assert fresh(visit).status == "expired"
    give_card(customer, now=NOW)
    checkout.complete_checkout(visit.id, now=NOW)
    checkout.expire_checkout(visit.id, now=NOW)
    assert fresh(visit).status == "complete"
    assert current_subscription(customer.id) is not None


def test_what_is_refused_by_then_leaves_the_card(free: PlanVersion, pro: PlanVersion) -> None:
    subscription = a_subscription(free)
    visit = begin(subscription.customer_id, "pro")
    catalogue.archive_plan(pro.plan_id, actor=ACTOR, now=NOW)
    checkout.complete_checkout(visit.id, now=NOW)
    assert (fresh(visit).status, fresh(subscription).version) == ("complete", free)


def test_is_not_begun_where_it_would_be_refused(free: PlanVersion, pro: PlanVersion) -> None:
    subscription = a_subscription(pro)
    customer_id = subscription.customer_id
    with pytest.raises(checkout.CheckoutAlready):
        begin(customer_id, "pro")
    with pytest.raises(PlanUnknown):
        begin(customer_id, "none")
    a_plan(currency="eur", key="euro")
    with pytest.raises(CurrencyUnfit):
        begin(customer_id, "euro")
    invoice = bill(subscription, now=NOVEMBER + DAY)
    collecting.mark_payment_failed(invoice.id, attempt=1, code="declined", now=NOVEMBER + DAY)
    with pytest.raises(PlanChangeRefused):
        begin(customer_id, "free", NOVEMBER + 2 * DAY)
    with pytest.raises(checkout.CheckoutUnknown):
        checkout.complete_checkout(1, now=NOW)
    assert not CheckoutSession.objects.exists()
