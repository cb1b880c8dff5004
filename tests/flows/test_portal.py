"""What a denied customer does: follows the link of the denial, signs in, pays, and is served."""

from __future__ import annotations

import pytest

from billing.models import StripeEvent
from billing.payments.simulator import enter_card
from config.quickstart.catalogue import CALLS
from tests.flows.browsing import Browser
from tests.flows.conftest import Live

PASSWORD = "correct horse battery staple"

pytestmark = pytest.mark.timeout(180)


def test_the_link_of_a_denial_leads_to_checkout_and_back_to_the_very_next_200(live: Live) -> None:
    live.farebox.post("/customers", {"external_id": "ada", "name": "Ada"})
    person = {"customer": "ada", "email": "ada@example.com", "password": PASSWORD}
    live.farebox.post("/members", person)
    live.farebox.post("/subscriptions", {"customer": "ada", "plan": "free"})
    call = {"customer": "ada", "meter": CALLS, "mode": "consume"}
    assert live.farebox.check(**call, quantity=1_000, id="all").status == 200
    denied = live.farebox.check(**call, id="one-more")
    (link,) = [each["href"] for each in denied.body["remedies"] if each.get("plan") == "pro"]
    browser = Browser()

    browser.visit(link)
    assert "/sign-in" in browser.url
    browser.submit("Sign in", username="ada@example.com", password=PASSWORD)
    assert browser.url == link
    browser.submit("Go on to Checkout")
    assert browser.url.startswith(live.stripe.url)
    back = enter_card(browser.url)
    assert back.startswith(live.base_url)
    browser.visit(back)

    assert "Pro" in browser.page
    assert not StripeEvent.objects.exclude(processed_at=None).exists()  # no webhook was needed
    assert live.farebox.check(**call, id="one-more").status == 200
    live.settle()
    (subscription,) = live.farebox.get("/subscriptions", customer="ada")["data"]
    assert (subscription["plan"], subscription["status"]) == ("pro", "active")


def test_an_upgrade_holds_before_its_page_is_there(live: Live) -> None:
    live.farebox.post("/customers", {"external_id": "ada", "name": "Ada"})
    person = {"customer": "ada", "email": "ada@example.com", "password": PASSWORD}
    live.farebox.post("/members", person)
    page = live.farebox.post("/checkout-sessions", {"customer": "ada", "plan": None})["url"]
    enter_card(page)
    live.settle()
    live.farebox.post("/subscriptions", {"customer": "ada", "plan": "free"})
    call = {"customer": "ada", "meter": CALLS, "mode": "consume"}
    assert live.farebox.check(**call, quantity=1_000, id="all").status == 200
    assert live.farebox.check(**call, id="one-more").status == 402
    browser = Browser()
    browser.visit(f"{live.base_url}/portal/plans/pro")
    browser.submit("Sign in", username="ada@example.com", password=PASSWORD)

    browser.submit("Change now")  # no worker, no beat: what the page shows holds at the gate

    assert live.farebox.check(**call, id="one-more").status == 200
    assert "Pro" in browser.page
