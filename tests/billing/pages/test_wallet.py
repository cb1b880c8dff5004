"""The portal's page of the wallet."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal

import pytest
from django.test import Client

from accounts.models import AuditEntry, Customer, Member
from billing.models import AutoTopUp, Invoice, Wallet
from billing.operations import topping_up
from billing.payments import charging
from billing.payments.pushing import push_due
from billing.payments.simulator import Simulator
from tests.factories.accounts import a_customer
from tests.factories.payments import give_card
from tests.factories.top_ups import subscribed

PAGE = "/portal/wallet"
TERMS = {"threshold": "10", "amount": "20", "monthly_cap": "50", "do": "set"}


@pytest.fixture
def payer(simulator: Simulator, customer: Customer, now: datetime) -> Customer:
    give_card(customer, now=now)
    return customer


def send(browser: Client, **filled: str) -> str:
    return browser.post(PAGE, filled, follow=True).content.decode()


def test_a_member_tops_the_wallet_up(
    browser: Client, payer: Customer, member: Member, simulator: Simulator
) -> None:
    page = send(browser, do="top-up", top_up="25")
    assert "$25.00 is in your wallet." in page
    assert "TU-000001" in page
    assert Wallet.objects.get().balance == Decimal(25)
    assert AuditEntry.objects.get(action="top_up.begun").actor == member.public_id
    overview = browser.get("/portal").content.decode()
    assert "Paid ahead: <strong>$25.00</strong>" in overview
    assert "TU-000001" not in overview  # an invoice of nothing that was bought
    top_up = Invoice.objects.get()
    assert (
        "Top-up TU-000001" in browser.get(f"/portal/invoices/{top_up.public_id}").content.decode()
    )


def test_a_form_that_is_sent_twice_charges_once(
    browser: Client, payer: Customer, simulator: Simulator
) -> None:
    (form,) = re.findall(r'name="form" value="(\w{32})"', browser.get(PAGE).content.decode())
    for _ in range(2):
        assert "$25.00 is in your wallet." in send(browser, do="top-up", top_up="25", form=form)
    assert Wallet.objects.get().balance == Decimal(25)
    assert len(simulator.all("payment_intent")) == 1
    # Another amount, on a page that the browser kept, is another top-up.
    assert "$30.00 is in your wallet." in send(browser, do="top-up", top_up="30", form=form)
    assert Wallet.objects.get().balance == Decimal(55)


@pytest.mark.parametrize(("typed", "words"), [("ten", "in figures"), ("0.10", "at least $0.50")])
def test_what_cannot_be_charged_is_said_beside_the_field(
    browser: Client, payer: Customer, simulator: Simulator, typed: str, words: str
) -> None:
    answer = browser.post(PAGE, {"do": "top-up", "top_up": typed})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert 'id="top_up-refused"' in page
    assert words in page
    assert f'value="{typed}"' in page
    assert not Invoice.objects.exists()


def test_a_declined_card_is_told(
    browser: Client, simulator: Simulator, customer: Customer, now: datetime
) -> None:
    give_card(customer, test_card="pm_card_chargeCustomerFail", now=now)
    page = send(browser, do="top-up", top_up="25")
    assert "The payment failed. Your card was declined." in page
    assert Wallet.objects.get().balance == 0


def test_a_bank_that_asks_leads_to_its_page_and_can_be_given_up(
    browser: Client, simulator: Simulator, customer: Customer, now: datetime
) -> None:
    give_card(customer, test_card="pm_card_authenticationRequired", now=now)
    page = send(browser, do="top-up", top_up="25")
    top_up = Invoice.objects.get()
    assert "Your bank wants you to confirm the top-up of $25.00." in page
    assert f'href="{top_up.hosted_url}"' in page
    assert "Top up now" not in page
    assert "is under way" in send(browser, do="top-up", top_up="25")  # one at a time
    page = send(browser, do="cancel", top_up=top_up.public_id)
    assert "The top-up is canceled." in page
    assert "Top up now" in page


def test_automatic_top_ups_are_switched_on_stopped_and_on_again(
    browser: Client, simulator: Simulator, customer: Customer, now: datetime
) -> None:
    give_card(customer, test_card="pm_card_chargeCustomerFail", now=now)
    subscribed(customer, now=now)
    page = send(browser, **TERMS)
    assert "Automatic top-ups are switched on." in page
    assert "$0.00 of $50.00 charged automatically this month." in page
    assert 'value="10.00"' in page

    topping_up.top_up_due(now=now, limit=1)
    push_due(now=now, limit=1)
    charging.charge_due(now=now, limit=1)
    page = browser.get(PAGE).content.decode()
    assert "Your card was declined." in page
    assert "change the payment method" in page
    assert "Switch on again" in page
    assert "not topped up automatically" in browser.get("/portal").content.decode()

    assert "Switch on again" not in send(browser, **TERMS)
    assert AutoTopUp.objects.get().suppressed_at is None
    page = send(browser, do="stop")
    assert "Automatic top-ups are switched off." in page
    assert not AutoTopUp.objects.get().enabled


def test_without_a_subscription_automatic_top_ups_rest_and_say_so(
    browser: Client, payer: Customer, now: datetime
) -> None:
    page = send(browser, **TERMS)
    assert "Resting" in page
    assert "Nothing is charged automatically while you have no subscription." in page
    assert 'href="/portal/plans"' in page
    assert topping_up.top_up_due(now=now, limit=1) == 0
    subscribed(payer, now=now)
    assert "Resting" not in browser.get(PAGE).content.decode()


@pytest.mark.parametrize(
    ("member_", "typed", "words"),
    [("monthly_cap", "19", "at least the amount"), ("threshold", "0", "more than nothing")],
)
def test_terms_that_are_refused(
    browser: Client, payer: Customer, member_: str, typed: str, words: str
) -> None:
    answer = browser.post(PAGE, {**TERMS, member_: typed})
    assert answer.status_code == 422
    assert f'id="{member_}-refused"' in answer.content.decode()
    assert words in answer.content.decode()
    assert not AutoTopUp.objects.exists()


def test_who_has_no_card_is_led_to_where_one_is_added(browser: Client) -> None:
    assert "Add a payment method" in browser.get(PAGE).content.decode()
    assert "no payment method to charge" in send(browser, do="top-up", top_up="25")
    assert not Invoice.objects.exists()


def test_others_top_ups_do_not_exist(browser: Client, simulator: Simulator, now: datetime) -> None:
    give_card(stranger := a_customer(), now=now)
    theirs = topping_up.begin_top_up(stranger.pk, amount=900, actor="opk_1", now=now)
    for asked in (theirs.public_id, "nonsense"):
        assert "There is no such top-up." in send(browser, do="cancel", top_up=asked)
    theirs.refresh_from_db()
    assert theirs.status == "open"


def test_nobody_sees_it_without_signing_in(db: None) -> None:
    answer = Client().post(PAGE, {"do": "top-up", "top_up": "25"})
    assert answer.status_code == 302
    assert "/sign-in" in answer["Location"]
