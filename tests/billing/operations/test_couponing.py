"""Coupons: made, redeemed once, taken off bills, and right when usage is corrected."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from accounts.models import AuditEntry
from accounts.operations.versions import CustomerUnknown
from billing.domain.discounts import CouponInvalid
from billing.models import Coupon, CouponRedemption, Invoice, Subscription
from billing.operations import checking, collecting, couponing, crediting
from billing.queries.coupons import periods_left
from billing.queries.explanations import explained
from billing.queries.invoices import invoice_preview
from metering.models import Meter
from metering.operations.correcting import amend
from tests.factories.accounts import a_customer
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
from tests.factories.threads import at_once

pytestmark = pytest.mark.django_db
NOVEMBER, DECEMBER = datetime(2026, 11, 3, tzinfo=UTC), datetime(2026, 12, 3, tzinfo=UTC)
JANUARY = datetime(2027, 1, 3, tzinfo=UTC)


def a_coupon(code: str = "SPRING", **terms: Any) -> Coupon:
    if "amounts" not in terms:
        terms.setdefault("percent", Decimal(20))
    return couponing.create_coupon(code=code, name="Spring", **terms, actor=ACTOR, now=START)


def redeem(subscription: Subscription, code: str = "spring") -> CouponRedemption:
    return couponing.redeem(subscription.customer_id, code=code, actor=ACTOR, now=NOW)


@pytest.fixture
def meter(db: None) -> Meter:
    return make_meter(key="chat.tokens")


@pytest.fixture
def subscription(meter: Meter) -> Subscription:
    return a_subscription(a_plan(calls(meter), key="pro"))


def test_a_percentage_is_taken_off_fee_and_usage(subscription: Subscription, meter: Meter) -> None:
    a_coupon(periods=1)
    report(subscription.customer, meter, 1_333, at=NOW)
    redemption = redeem(subscription)
    preview = invoice_preview(subscription)
    assert preview is not None
    assert [line.amount for line in preview.lines] == [2_000, 333, -467]
    invoice = bill(subscription, now=NOVEMBER)
    assert amounts(invoice) == [("fee", 2_000), ("usage", 333), ("discount", -467)]
    line = invoice.lines.get(kind="discount")
    assert line.description == "Spring (SPRING): 20% off"
    assert line.detail == {
        "coupon": "SPRING",
        "redemption": redemption.public_id,
        "percent": "20",
        "base": 2_333,
        "taken": 467,
        "shares": {"1": 400, "2": 67},  # 466.6 is 467: 400.34 and 66.66
    }
    explanation = explained(invoice)
    assert explanation.holds
    assert explanation.lines[2].sums == ("20% of 2,333 = 467",)
    assert periods_left(redemption) == 0
    assert amounts(bill(subscription, now=DECEMBER)) == [("fee", 2_000)]
    assert checking.broken_invariants(now=DECEMBER) == []


def test_periods_are_counted_from_the_one_under_way(subscription: Subscription) -> None:
    a_coupon(amounts={"usd": 500, "eur": 450}, periods=2)
    redemption = redeem(subscription)
    assert periods_left(redemption) == 2
    assert bill(subscription, now=NOVEMBER).total == 1_500
    assert periods_left(redemption) == 1
    second = bill(subscription, now=DECEMBER)
    assert (second.total, explained(second).lines[1].sums) == (1_500, ("500, at most 2,000 = 500",))
    third = bill(subscription, now=JANUARY)
    assert third.total == 2_000
    collecting.void(second.id, now=JANUARY)
    assert periods_left(redemption) == 0  # what was voided was a period all the same


def test_a_coupon_for_ever_until_it_is_taken_back(subscription: Subscription) -> None:
    a_coupon()
    redemption = redeem(subscription)
    for now in (NOVEMBER, DECEMBER):
        assert bill(subscription, now=now).total == 1_600
        assert periods_left(redemption) is None
    for _ in range(2):
        redemption = couponing.end_redemption(redemption.id, actor=ACTOR, now=DECEMBER)
    assert periods_left(redemption) == 0
    assert bill(subscription, now=JANUARY).total == 2_000
    assert AuditEntry.objects.filter(action="coupon.ended").count() == 1


def test_coupons_follow_one_another_and_take_no_more_than_there_is(
    subscription: Subscription,
) -> None:
    a_coupon("HALF", percent=Decimal(50))
    a_coupon("MUCH", amounts={"usd": 900})
    a_coupon("MORE", amounts={"usd": 500})
    for code in ("HALF", "MUCH", "MORE"):
        redeem(subscription, code)
    invoice = bill(subscription, now=NOVEMBER)
    assert [line.amount for line in invoice.lines.order_by("position")] == [
        2_000,
        -1_000,
        -900,
        -100,
    ]
    assert (invoice.total, invoice.status) == (0, Invoice.Status.PAID)
    assert explained(invoice).holds


def test_a_coupon_of_other_plans_takes_nothing(subscription: Subscription) -> None:
    a_coupon(plans=[a_plan(key="basic").plan.key])
    a_coupon("PRO", plans=["pro"])
    redeem(subscription)
    redeem(subscription, "pro")
    assert amounts(bill(subscription, now=NOVEMBER)) == [("fee", 2_000), ("discount", -400)]


def test_a_discount_goes_before_credit(subscription: Subscription) -> None:
    earlier = bill(subscription, now=NOVEMBER)
    crediting.credit_note(earlier.id, amount=300, reason="slow", actor=ACTOR, now=NOVEMBER)
    a_coupon()
    couponing.redeem(subscription.customer_id, code="SPRING", actor=ACTOR, now=NOVEMBER)
    assert amounts(bill(subscription, now=DECEMBER)) == [
        ("fee", 2_000),
        ("discount", -400),
        ("credit", -300),
    ]


def test_late_and_corrected_usage_is_discounted_as_its_period_was(
    subscription: Subscription, meter: Meter
) -> None:
    a_coupon(periods=1, percent=Decimal(50))
    redeem(subscription)
    event = report(subscription.customer, meter, 1_250, at=NOW)
    assert bill(subscription, now=NOVEMBER).total == 1_125

    def becomes(quantity: int) -> None:
        amend(
            event.customer_id,
            event_id=event.id,
            quantities={meter.id: quantity},
            reason="a wrong count",
            actor=ACTOR,
            now=NOVEMBER + timedelta(days=1),
        )

    becomes(1_001)
    second = bill(subscription, now=DECEMBER)
    assert amounts(second) == [("fee", 2_000), ("adjustment", -249), ("discount", 124)]
    assert explained(second).holds
    line = second.lines.get(kind="discount")
    assert (line.detail["before"], line.detail["taken"]) == (1_125, 1_001)  # 50 % of 2001
    becomes(1_000)
    third = bill(subscription, now=JANUARY)
    # Half of 2000 is 1000, of which 1125 - 124 were given.
    assert amounts(third) == [("fee", 2_000), ("adjustment", -1), ("discount", 1)]
    assert checking.broken_invariants(now=JANUARY) == []


def test_a_correction_that_changes_no_discount(subscription: Subscription, meter: Meter) -> None:
    a_coupon(amounts={"usd": 100}, periods=1)
    redeem(subscription)
    event = report(subscription.customer, meter, 1_250, at=NOW)
    bill(subscription, now=NOVEMBER)
    amend(
        event.customer_id,
        event_id=event.id,
        quantities={meter.id: 1_200},
        reason="a wrong count",
        actor=ACTOR,
        now=NOVEMBER + timedelta(days=1),
    )
    assert amounts(bill(subscription, now=DECEMBER)) == [("fee", 2_000), ("adjustment", -50)]


def test_a_customer_redeems_a_coupon_once(subscription: Subscription) -> None:
    coupon = a_coupon()
    redemption = redeem(subscription)
    couponing.end_redemption(redemption.id, actor=ACTOR, now=NOW)
    with pytest.raises(couponing.CouponRefused, match="before"):
        redeem(subscription)
    assert (CouponRedemption.objects.count(), fresh(coupon).redemptions) == (1, 1)
    with pytest.raises(IntegrityError), transaction.atomic():
        CouponRedemption.objects.create(
            coupon=coupon, customer=subscription.customer, redeemed_at=NOW
        )


@pytest.mark.parametrize("why", ["over", "archived", "used up", "currency"])
def test_what_cannot_be_redeemed(subscription: Subscription, why: str) -> None:
    match why:
        case "over":
            a_coupon(expires_at=NOW)
        case "archived":
            coupon = a_coupon()
            for _ in range(2):
                couponing.archive_coupon(coupon.id, actor=ACTOR, now=START)
        case "used up":
            a_coupon(max_redemptions=1)
            couponing.redeem(a_customer().id, code="SPRING", actor=ACTOR, now=START)
        case _:
            a_coupon(amounts={"eur": 100, "gbp": 100})
    with pytest.raises(couponing.CouponRefused):
        redeem(subscription)
    assert not CouponRedemption.objects.filter(customer=subscription.customer).exists()
    assert not AuditEntry.objects.filter(
        action="coupon.redeemed", customer_id=subscription.customer_id
    ).exists()


def test_what_is_not_there(subscription: Subscription) -> None:
    with pytest.raises(couponing.CouponUnknown):
        redeem(subscription, "NONE")
    with pytest.raises(CustomerUnknown):
        couponing.redeem(1, code="NONE", actor=ACTOR, now=NOW)
    with pytest.raises(couponing.CouponUnknown):
        couponing.archive_coupon(1, actor=ACTOR, now=NOW)
    a_coupon()
    redemption = redeem(subscription)
    with pytest.raises(couponing.RedemptionUnknown):
        couponing.end_redemption(redemption.id, customer_id=1, actor=ACTOR, now=NOW)
    assert fresh(redemption).ended_at is None


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        ({"amounts": {"xxx": 1}}, "amounts"),
        ({"percent": Decimal(0)}, "percent"),
        ({"periods": 0}, "periods"),
        ({"periods": 1_201}, "periods"),
        ({"expires_at": START}, "expires_at"),
        ({"plans": ["none"]}, "plans"),
        ({"code": "a b"}, "code"),
    ],
)
def test_what_is_no_coupon(db: None, terms: dict[str, Any], param: str) -> None:
    with pytest.raises(CouponInvalid) as refused:
        a_coupon(**terms)
    assert refused.value.param == param
    assert not Coupon.objects.exists()


def test_codes_are_unique_and_terms_are_for_good(db: None) -> None:
    coupon = a_coupon()
    with pytest.raises(couponing.CouponCodeTaken):
        a_coupon("spring")
    assert Coupon.objects.count() == 1
    with pytest.raises(IntegrityError, match="terms for good"), transaction.atomic():
        Coupon.objects.filter(pk=coupon.pk).update(percent=99)


@pytest.mark.django_db(transaction=True)
def test_many_redeem_the_last_ones_at_once() -> None:
    coupon = a_coupon(max_redemptions=2)
    customers = [a_customer() for _ in range(5)]

    def one(customer_id: int) -> bool:
        try:
            couponing.redeem(customer_id, code="SPRING", actor=ACTOR, now=NOW)
        except couponing.CouponRefused:
            return False
        return True

    done = at_once([lambda each=each.id: one(each) for each in customers])  # type: ignore[misc]
    assert (sum(done), fresh(coupon).redemptions, coupon.uses.count()) == (2, 2, 2)
