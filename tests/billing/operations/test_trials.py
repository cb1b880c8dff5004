"""Trials: with and without a payment method, what their end brings, and that there is one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from accounts.models import AuditEntry
from billing.domain.trials import TrialOutcome
from billing.models import Invoice, Subscription
from billing.operations import catalogue, checking, closing, subscribing
from billing.operations.plan_shapes import PlanInvalid, VersionTerms
from billing.queries.trials import after_trial
from metering.models import Entitlement, Standing
from tests.factories.billing import (
    ACTOR,
    START,
    a_plan,
    a_subscription,
    amounts,
    bill,
    calls,
    fresh,
    give_card,
)
from tests.factories.metering import make_meter

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
END, LATER = START + 14 * DAY, START + 15 * DAY


def denial(subscription: Subscription) -> tuple[str, Any]:
    found = Standing.objects.get(customer=subscription.customer_id)
    return found.deny_code, found.deny_at


def ended(subscription: Subscription) -> Subscription:
    assert closing.advance_due(now=LATER, limit=10) == 1
    assert closing.advance_due(now=LATER, limit=10) == 0
    assert checking.broken_invariants(now=LATER) == []
    found: Subscription = fresh(subscription)
    return found


def outcomes() -> list[str]:
    entries = AuditEntry.objects.filter(action="subscription.trial_ended").order_by("id")
    return [entry.changes["outcome"] for entry in entries]


def test_a_trial_that_ends_in_a_cancellation() -> None:
    subscription = a_subscription(a_plan(trial_days=14, trial_end="cancel"), card=False)
    assert after_trial(subscription).outcome is TrialOutcome.CANCELED
    assert denial(subscription) == ("trial_ended", END)  # even if no worker looks
    subscription = ended(subscription)
    assert (subscription.status, subscription.canceled_at) == ("canceled", END)
    assert denial(subscription)[0] == "subscription_inactive"
    assert not Invoice.objects.exists()
    assert outcomes() == ["canceled"]


@pytest.mark.parametrize(("interval", "days"), [("week", 7), ("month", 31)])
def test_a_trial_that_ends_in_a_free_plan(interval: str, days: int) -> None:
    meter = make_meter()
    a_plan(calls(meter, included=5, price=None), key="free", fee=0, interval=interval)
    pro = a_plan(calls(meter, included=100), trial_days=14, trial_end="plan:free")
    subscription = a_subscription(pro, card=False)
    assert after_trial(subscription).version.plan.key == "free"
    assert denial(subscription) == ("", None)  # served throughout
    subscription = ended(subscription)
    assert (subscription.status, subscription.version.plan.key) == ("active", "free")
    assert (subscription.current_start_at, subscription.current_end_at) == (END, END + days * DAY)
    assert Entitlement.objects.get().included == 5
    assert denial(subscription) == ("", None)
    assert outcomes() == ["moved"]
    assert bill(subscription, now=END + (days + 3) * DAY).total == 0


@pytest.mark.parametrize("why", ["archived", "currency", "costs"])
def test_a_plan_that_cannot_take_over_does_not(why: str) -> None:
    terms: dict[str, Any] = {"fee": 0}
    terms |= {"currency": "eur"} if why == "currency" else {}
    terms |= {"fee": 100} if why == "costs" else {}
    free = a_plan(key="free", **terms)
    pro = a_plan(trial_days=14, trial_end="plan:free")
    if why == "archived":
        catalogue.archive_plan(free.plan_id, actor=ACTOR, now=START)
    subscription = ended(a_subscription(pro, card=False))
    assert (subscription.status, subscription.version_id) == ("incomplete", pro.id)
    assert denial(subscription)[0] == "trial_ended"
    assert outcomes() == ["waits"]


@pytest.mark.parametrize("trial_end", ["wait", "cancel", "plan:free"])
def test_with_a_card_the_first_paid_period_follows_whatever_the_plan_says(trial_end: str) -> None:
    a_plan(key="free", fee=0)
    subscription = a_subscription(a_plan(trial_days=14, trial_end=trial_end))
    assert after_trial(subscription).outcome is TrialOutcome.PAID
    subscription = ended(subscription)
    assert (subscription.status, subscription.current_start_at) == ("active", END)
    assert outcomes() == ["paid"]
    invoice = bill(subscription, now=START + 60 * DAY)
    assert (amounts(invoice), invoice.period_start_at) == ([("fee", 2_000)], END)


def test_a_trial_that_begins_with_a_card() -> None:
    meter = make_meter()
    version = a_plan(calls(meter, included=10), trial_days=14, trial_card=True)
    subscription = a_subscription(version, card=False)
    assert (subscription.status, subscription.trial_end_at) == ("incomplete", None)
    assert denial(subscription)[0] == "payment_method_missing"
    began = START + 3 * DAY
    give_card(subscription.customer, now=began)
    subscription = fresh(subscription)
    assert (subscription.status, subscription.trial_end_at) == ("trialing", began + 14 * DAY)
    assert subscription.anchor_at == subscription.current_end_at == began + 14 * DAY
    assert Entitlement.objects.get().over == "deny"
    assert denial(subscription) == ("", None)
    assert closing.advance_due(now=LATER + 3 * DAY, limit=10) == 1
    assert fresh(subscription).status == "active"
    assert checking.broken_invariants(now=LATER + 3 * DAY) == []
    # A card is there: the trial of the next customer begins at once.
    assert a_subscription(version).status == "trialing"


def test_one_trial_in_a_family_of_plans() -> None:
    first = a_subscription(a_plan(trial_days=14, family="chat"))
    customer = first.customer

    def again(**terms: Any) -> Subscription:
        old = Subscription.objects.exclude(status="canceled").get(customer=customer)
        subscribing.cancel(old.id, when="now", actor=ACTOR, now=LATER)
        version = a_plan(trial_days=14, **terms)
        return a_subscription(version, customer=customer, start_at=None, now=LATER)

    assert again(family="chat", key="other").status == "active"
    assert again(family="voice").status == "trialing"
    assert again(family="voice", trial_card=True).status == "active"
    assert again().status == "trialing"
    assert again().status == "active"


def test_a_card_that_comes_later_begins_no_second_trial() -> None:
    version = a_plan(trial_days=14, trial_card=True)
    first = a_subscription(version)
    subscribing.cancel(first.id, when="now", actor=ACTOR, now=LATER)
    first.customer.stripe.delete()
    again = a_subscription(version, customer=first.customer, card=False, start_at=None, now=LATER)
    assert again.status == "incomplete"
    give_card(first.customer, now=LATER + DAY)
    assert (fresh(again).status, fresh(again).trial_end_at) == ("active", None)


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        ({"trial_end": "pause"}, "trial_end"),
        ({"trial_end": "plan:none"}, "trial_end"),
        ({"trial_card": "yes"}, "trial_card"),
        ({"family": "x" * 101}, "family"),
    ],
)
def test_what_no_plan_can_say(terms: dict[str, Any], param: str) -> None:
    with pytest.raises(PlanInvalid) as refused:
        catalogue_plan(terms)
    assert refused.value.param == param


def catalogue_plan(terms: dict[str, Any]) -> None:
    family = {"family": terms.pop("family")} if "family" in terms else {}
    given = VersionTerms(**terms)
    catalogue.create_plan(key="x", name="X", terms=given, **family, actor=ACTOR, now=START)
