"""A customer pays ahead, has the wallet filled by itself, and mends what stopped that."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from billing.models import Invoice
from billing.operations import checking
from tests.flows.browsing import Browser
from tests.flows.conftest import Live
from tests.flows.test_main_job import (
    DECLINED_LATER,
    LAST_MONTH,
    a_paying_customer,
    enter_card_on_checkout,
)
from tests.flows.test_portal import PASSWORD

pytestmark = pytest.mark.timeout(180)


def test_a_wallet_is_filled_drawn_on_and_filled_again(live: Live) -> None:
    ada = a_paying_customer(live, ago=LAST_MONTH)
    person = {"customer": "ada", "email": "ada@example.com", "password": PASSWORD}
    live.farebox.post("/members", person)
    browser = Browser()
    browser.visit(f"{live.base_url}/portal/wallet")
    browser.submit("Sign in", username="ada@example.com", password=PASSWORD)
    browser.submit("Top up now", top_up="25")
    assert "$25.00 is in your wallet." in browser.page
    browser.submit("Switch on", threshold="10", amount="20", monthly_cap="60")
    assert "Automatic top-ups are switched on." in browser.page

    # The month is over: its invoice is paid from the wallet, which runs low and is filled.
    live.settle()
    assert _invoices(live) == [("INV-000001", "paid", 2_000)]
    assert _wallet(live) == "25"

    # The card is bad: one attempt, and the customer is told why there is no other.
    enter_card_on_checkout(live, ada, plan=None, card=DECLINED_LATER)
    browser.visit(f"{live.base_url}/portal/wallet")
    browser.submit("Save", threshold="30")
    live.settle()
    live.settle()
    browser.visit(f"{live.base_url}/portal")
    assert "not topped up automatically" in browser.page
    browser.visit(f"{live.base_url}/portal/wallet")
    assert "Your card was declined." in browser.page
    assert "Switch on again" in browser.page
    assert sum(not charge["paid"] for charge in live.stripe.all("charge")) == 1
    (subscription,) = live.farebox.get("/subscriptions", customer="ada")["data"]
    assert subscription["status"] == "active"  # nobody owes a top-up

    # Another card, and it goes on.
    enter_card_on_checkout(live, ada, plan=None)
    live.settle()
    assert _wallet(live) == "45"
    found = live.farebox.get(f"/customers/{ada['id']}/auto-top-up")
    assert (found["topped_up"], found["suppressed_at"]) == (4_000, None)
    paid = [charge["amount"] for charge in live.stripe.all("charge") if charge["paid"]]
    assert paid == [2_500, 2_000, 2_000]
    assert checking.broken_invariants(now=datetime.now(UTC)) == []


def _wallet(live: Live) -> str:
    (wallet,) = live.farebox.get("/wallets", customer="ada")["data"]
    return str(wallet["balance"])


def _invoices(live: Live) -> list[tuple[str | None, str, int]]:
    bills = Invoice.objects.filter(wallet=None).order_by("id")
    return [(each.number, each.status, each.total) for each in bills]
