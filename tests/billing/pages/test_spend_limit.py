"""The portal's page where a customer limits what usage may cost."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts.models import AuditEntry, Customer, Member
from billing.models import SpendLimit
from billing.operations.limiting import set_spend_limit
from billing.pages.spend_limit import AmountUnreadable, minor
from metering.models import Standing
from tests.billing.pages.conftest import signed_in
from tests.factories.accounts import a_customer, a_member
from tests.factories.billing import ACTOR, START, a_plan, a_subscription, calls
from tests.factories.metering import make_meter

PAGE = "/portal/spend-limit"


@pytest.fixture(autouse=True)
def subscription(customer: Customer) -> None:
    meter = make_meter(key="chat.tokens")
    a_subscription(a_plan(calls(meter, included=1_000)), customer=customer)


def words(browser: Client) -> str:
    return browser.get(PAGE).content.decode()


def test_a_limit_is_set_raised_and_removed(
    browser: Client, customer: Customer, member: Member
) -> None:
    assert "without limit" not in words(browser)
    page = browser.post(PAGE, {"amount": "12.50"}, follow=True).content.decode()
    assert "Your spend limit is $12.50 from now on." in page
    assert "$0.00, $12.50 left" in page
    assert "2,250" in page  # a thousand are included, a cent each past that
    assert 'value="12.50"' in page
    assert SpendLimit.objects.get().amount == 1_250
    entry = AuditEntry.objects.get(action="spend_limit.set")
    assert (entry.actor, entry.customer_id) == (member.public_id, customer.id)

    browser.post(PAGE, {"amount": "1,000"})
    assert SpendLimit.objects.get().amount == 100_000

    page = browser.post(PAGE, {"do": "remove"}, follow=True).content.decode()
    assert "Your spend limit is removed." in page
    assert not SpendLimit.objects.exists()
    assert Standing.objects.get().spend_limit is None


@pytest.mark.parametrize(
    "typed", ["", "-1", "ten", "1.234", "١٢", "1e3", "9" * 12, "50,00", "1,0", ",5", "1,00,000"]
)
def test_what_is_no_amount_is_said_beside_the_field(browser: Client, typed: str) -> None:
    answer = browser.post(PAGE, {"amount": typed})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in page
    assert 'id="amount-refused"' in page
    assert f'value="{typed}"' in page
    assert not SpendLimit.objects.exists()


def test_the_operators_limit_is_shown_and_not_touched(browser: Client, customer: Customer) -> None:
    set_spend_limit(customer.id, amount=300, set_by="operator", actor=ACTOR, now=START)
    browser.post(PAGE, {"amount": "5"})
    page = words(browser)
    assert "$3.00" in page
    assert "it is the one that counts" in page
    browser.post(PAGE, {"do": "remove"})
    assert SpendLimit.objects.get().set_by == "operator"
    assert "Remove my limit" not in words(browser)


def test_who_has_no_subscription_can_limit_what_is_to_come() -> None:
    browser = signed_in(a_member(a_customer(currency="jpy")))
    page = browser.post(PAGE, {"amount": "500"}, follow=True).content.decode()
    assert "500 JPY" in page
    assert "Spent in this period" not in page


def test_nobody_sees_it_without_signing_in() -> None:
    answer = Client().post(PAGE, {"amount": "5"})
    assert answer.status_code == 302
    assert "/sign-in" in answer["Location"]
    assert not SpendLimit.objects.exists()


def test_amounts_are_read_in_the_currency() -> None:
    assert minor("12", "usd") == 1_200
    assert minor("0.5", "usd") == 50
    assert minor("1.234", "kwd") == 1_234
    assert minor("500", "jpy") == 500
    assert minor("1,234,567.5", "usd") == 123_456_750
    with pytest.raises(AmountUnreadable):
        minor("1.5", "jpy")
