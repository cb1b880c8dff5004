"""The example: made once, mended where a part is missing, its secrets kept."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from accounts.models import ApiKey, Customer, Gateway, GatewayKey, Member, OperatorKey
from billing.models import Plan, Subscription
from config.quickstart.seed import sow
from metering.models import Meter, Offer

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
pytestmark = pytest.mark.django_db


def counts() -> list[int]:
    models = (ApiKey, Customer, Gateway, GatewayKey, Member, Meter, OperatorKey, Plan, Subscription)
    return [model.objects.count() for model in models]


def test_sowing_twice_makes_nothing_new_and_keeps_every_secret() -> None:
    first = sow({}, now=NOW)
    before = counts()

    assert sow(first, now=NOW) == first
    assert counts() == before


def test_both_customers_are_served_and_can_sign_in() -> None:
    sown = sow({}, now=NOW)

    assert [(each["name"], each["plan"]) for each in sown["customers"]] == [
        ("Acme", "free"),
        ("Globex", "pro"),
    ]
    assert set(Subscription.objects.values_list("status", flat=True)) == {"active"}
    for each in sown["customers"]:
        person = Member.objects.get(email=each["member"]["email"])
        assert person.check_password(each["member"]["password"])
        assert person.customer is not None
        assert person.customer.public_id == each["id"]
    admin = Member.objects.get(email=sown["admin"]["email"])
    assert admin.is_staff
    assert Offer.objects.filter(plan_key="pro").exists()


def test_secrets_that_were_lost_are_replaced_by_some_that_work() -> None:
    first = sow({}, now=NOW)

    again = sow({}, now=NOW)

    assert again["operator_key"] != first["operator_key"]
    assert again["gateway_key"] != first["gateway_key"]
    assert Customer.objects.count() == 2
    assert Gateway.objects.count() == 1
    for each in again["customers"]:
        person = Member.objects.get(email=each["member"]["email"])
        assert person.check_password(each["member"]["password"])
    assert sow(again, now=NOW) == again
