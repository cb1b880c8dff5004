"""Seats: more at once and by the second, fewer from the next period on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.models import AuditEntry
from billing.domain.plan_changes import ChangeWhen, PlanChangeRefused
from billing.models import PlanVersion, Subscription, SubscriptionPhase
from billing.operations import catalogue, changing, checking, closing, seating, subscribing
from billing.operations.plan_shapes import PlanInvalid, VersionTerms
from tests.factories.billing import (
    ACTOR,
    NOW,
    START,
    a_plan,
    a_subscription,
    amounts,
    bill,
    calls,
    fresh,
)
from tests.factories.metering import make_meter, report

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
SEATS: dict[str, Any] = {"included": 1, "price": {"model": "per_unit", "unit_price": "10"}}


@pytest.fixture
def team() -> PlanVersion:
    return a_plan(key="team", fee=2_000, seats=SEATS)


def to(subscription: Subscription, seats: int, **members: Any) -> Subscription:
    given = {"actor": ACTOR, "now": NOW, **members}
    return seating.change_seats(subscription.id, seats=seats, **given)


def test_seats_are_billed_beside_the_plan(team: PlanVersion) -> None:
    subscription = a_subscription(team, seats=3)

    invoice = bill(subscription, now=NOVEMBER + DAY)

    assert amounts(invoice) == [("fee", 2_000), ("fee", 2_000)]  # two seats past the one
    line = invoice.lines.get(position=2)
    assert (line.description, line.quantity) == ("Team plan: 2 seats past the 1 included", 2)
    assert line.detail["seats"] == 3
    assert line.detail["tiers"][0]["amount"] == "20"


def test_the_seat_that_is_included_makes_no_line(team: PlanVersion) -> None:
    assert amounts(bill(a_subscription(team), now=NOVEMBER + DAY)) == [("fee", 2_000)]


def test_one_seat_is_called_one() -> None:
    alone = a_plan(fee=0, name="Solo", seats={"price": {"model": "flat", "price": "7"}})
    invoice = bill(a_subscription(alone), now=NOVEMBER + DAY)
    assert invoice.lines.get().description == "Solo plan: 1 seat"
    assert invoice.total == 700


def test_more_seats_hold_at_once_and_are_paid_by_the_second(team: PlanVersion) -> None:
    subscription = to(a_subscription(team, seats=3), 5)

    assert (subscription.seats, subscription.pending_seats) == (5, None)
    assert SubscriptionPhase.objects.count() == 2
    invoice = bill(subscription, now=NOVEMBER + DAY)
    # 21 of 31 days are left: of 20.00 there are 13.55 left and 6.45 used; of 40.00 27.10 left.
    assert [line.amount for line in invoice.lines.order_by("position")] == [645, 645, 1355, 2710]
    assert invoice.lines.get(position=4).description == (
        "Team plan: 4 seats past the 1 included, 2026-10-11 to 2026-11-01 of 31 days"
    )
    assert checking.broken_invariants(now=NOVEMBER + DAY) == []


def test_fewer_seats_hold_from_the_next_period_on(team: PlanVersion) -> None:
    subscription = to(a_subscription(team, seats=5), 2)

    assert (subscription.seats, subscription.pending_seats) == (5, 2)
    assert amounts(bill(subscription, now=NOVEMBER + DAY))[1] == ("fee", 4_000)
    after = fresh(subscription)
    assert (after.seats, after.pending_seats) == (2, None)
    assert amounts(bill(subscription, now=DECEMBER + DAY))[1] == ("fee", 1_000)


def test_fewer_seats_now_give_nothing_back(team: PlanVersion) -> None:
    subscription = to(a_subscription(team, seats=5), 2, when=ChangeWhen.NOW)

    assert fresh(subscription).seats == 2
    assert amounts(bill(subscription, now=NOVEMBER + DAY)) == [("fee", 2_000), ("fee", 4_000)]


def test_to_and_fro_mints_nothing(team: PlanVersion) -> None:
    subscription = a_subscription(team, seats=5)
    for day, seats in enumerate((2, 5, 1, 5, 3), start=1):
        to(subscription, seats, when=ChangeWhen.NOW, now=START + day * DAY)
    assert bill(subscription, now=NOVEMBER + DAY).total == 6_000


def test_asking_for_what_holds_takes_back_what_was_waiting(team: PlanVersion) -> None:
    subscription = to(a_subscription(team, seats=5), 2)

    taken_back = to(subscription, 5)
    again = to(subscription, 5)

    assert taken_back.pending_seats is again.pending_seats is None
    moves = AuditEntry.objects.filter(action="subscription.seats_changed").order_by("id")
    assert [move.changes["when"] for move in moves] == ["period_end", "taken_back"]


def test_a_change_of_plan_keeps_the_seats_and_counts_them(team: PlanVersion) -> None:
    """Twenty people at 10.00 are dearer than a fee of 100.00: that waits for the period's end."""
    company = a_plan(key="company", fee=10_000)
    subscription = a_subscription(team, seats=20)
    preview = changing.preview_change(subscription.id, plan="company", now=NOW)
    assert (preview.when, preview.next_fee) == (ChangeWhen.PERIOD_END, 10_000)

    changing.change_plan(subscription.id, plan="company", actor=ACTOR, now=NOW)
    to(subscription, 25)

    closing.close_due(now=NOVEMBER, limit=10)
    after = fresh(subscription)
    assert (after.version, after.seats) == (company, 25)
    assert changing.preview_change(after.id, plan="team", now=NOVEMBER + DAY).next_fee == 26_000


def test_usage_goes_on_over_a_change_of_seats() -> None:
    meter = make_meter()
    team = a_plan(calls(meter, included=100), fee=0, seats=SEATS)
    subscription = a_subscription(team)
    report(subscription.customer, meter, 150, at=START + DAY)
    to(subscription, 2)
    report(subscription.customer, meter, 50, at=NOW + DAY)

    invoice = bill(subscription, now=NOVEMBER + DAY)

    # Nothing was charged before the second seat: 10.00 x 21 / 31; then 50 and 50 at a cent.
    assert amounts(invoice) == [("fee", 677), ("usage", 50), ("usage", 50)]


@pytest.mark.parametrize("seats", [0, -1, 1_000_001])
def test_a_number_that_no_team_has_is_refused(team: PlanVersion, seats: int) -> None:
    subscription = a_subscription(team)
    with pytest.raises(subscribing.SeatsInvalid):
        to(subscription, seats)
    assert fresh(subscription).seats == 1
    with pytest.raises(subscribing.SeatsInvalid):
        a_subscription(team, seats=seats)
    assert Subscription.objects.count() == 1


def test_a_plan_without_seats_refuses_them() -> None:
    subscription = a_subscription(a_plan())
    with pytest.raises(subscribing.SeatsInvalid):
        to(subscription, 2)
    with pytest.raises(subscribing.SeatsInvalid):
        a_subscription(subscription.version, seats=2)
    assert SubscriptionPhase.objects.count() == 1


def test_a_canceled_subscription_changes_no_more(team: PlanVersion) -> None:
    subscription = a_subscription(team)
    subscribing.cancel(subscription.id, when="now", actor=ACTOR, now=NOW)
    with pytest.raises(PlanChangeRefused):
        to(subscription, 2, now=NOW + DAY)
    assert fresh(subscription).seats == 1


def test_seats_need_a_payment_method_as_a_fee_does() -> None:
    team = a_plan(fee=0, seats=SEATS)
    assert a_subscription(team, card=False).status == "incomplete"


def test_terms_of_seats_that_do_not_hold_together_are_refused() -> None:
    terms = VersionTerms(seats={"included": 1, "price": {"model": "per_unit"}})
    with pytest.raises(PlanInvalid) as refused:
        catalogue.create_plan(key="t", name="T", terms=terms, actor=ACTOR, now=NOW)
    assert refused.value.param == "seats.price.unit_price"
    with pytest.raises(PlanInvalid) as refused:
        catalogue.create_plan(
            key="t",
            name="T",
            terms=VersionTerms(seats=[]),  # type: ignore[arg-type]
            actor=ACTOR,
            now=NOW,
        )
    assert refused.value.param == "seats"
    assert not PlanVersion.objects.exists()
