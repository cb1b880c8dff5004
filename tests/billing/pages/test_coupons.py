"""The portal's page where a customer redeems coupons."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pytest
from django.test import Client

from accounts.models import AuditEntry, Customer, Member
from billing.models import CouponRedemption
from billing.operations.couponing import create_coupon
from billing.operations.customer_credits import grant_credit
from tests.factories.billing import ACTOR, a_plan, a_subscription

PAGE = "/portal/coupons"


def test_a_code_is_redeemed_and_shown_with_the_next_invoice(
    browser: Client, customer: Customer, member: Member, now: datetime
) -> None:
    a_subscription(a_plan(), customer=customer, start_at=now, now=now)
    create_coupon(
        code="SPRING", name="Spring", percent=Decimal(20), periods=2, actor=ACTOR, now=now
    )
    assert "What you redeemed" not in browser.get(PAGE).content.decode()
    page = browser.post(PAGE, {"code": " spring "}, follow=True).content.decode()
    assert "SPRING counts from now on: 20% off." in page
    assert "Spring (SPRING)" in page
    entry = AuditEntry.objects.get(action="coupon.redeemed")
    assert (entry.actor, entry.customer_id) == (member.public_id, customer.id)
    grant_credit(customer.id, amount=250, reason="a gift", actor=ACTOR, now=now)
    overview = browser.get("/portal").content.decode()
    assert "$2.50" in overview
    assert "a gift" in overview
    assert "Spring (SPRING): 20% off" in overview
    assert "$13.50" in overview


@pytest.mark.parametrize("typed", ["", "two words", "NONE", "SPRING", "<b>"])
def test_what_cannot_be_redeemed_is_said_beside_the_field(
    browser: Client, now: datetime, typed: str
) -> None:
    create_coupon(code="SPRING", name="Spring", amounts={"eur": 5}, actor=ACTOR, now=now)
    answer = browser.post(PAGE, {"code": typed})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in page
    assert 'id="code-refused"' in page
    assert "<b>" not in page
    assert not CouponRedemption.objects.exists()
