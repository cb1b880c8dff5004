"""A customer limits its spending, is denied, follows the link, raises the limit, and is served."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from accounts.queries import customer_by_reference
from billing.models import SpendLimit
from billing.operations.limiting import set_spend_limit
from config.quickstart.catalogue import CALLS
from tests.factories.billing import give_card
from tests.flows.browsing import Browser
from tests.flows.conftest import Live
from tests.flows.test_portal import PASSWORD

FREE = 4  # calls at $0.001 that an invoice rounds to nothing
pytestmark = pytest.mark.timeout(180)


def test_the_link_of_a_denial_leads_to_where_the_limit_is_raised(live: Live) -> None:
    live.farebox.post("/customers", {"external_id": "ada", "name": "Ada"})
    person = {"customer": "ada", "email": "ada@example.com", "password": PASSWORD}
    live.farebox.post("/members", person)
    customer = customer_by_reference("ada")
    assert customer is not None
    give_card(customer)
    live.farebox.post("/subscriptions", {"customer": "ada", "plan": "pro"})
    page = f"{live.base_url}/portal/spend-limit"
    browser = Browser()
    browser.visit(page)
    browser.submit("Sign in", username="ada@example.com", password=PASSWORD)
    browser.submit("Set the limit", amount="0")
    assert "Your spend limit is $0.00 from now on." in browser.page

    call = {"customer": "ada", "meter": CALLS, "mode": "consume"}
    assert live.farebox.check(**call, quantity=10_000, id="all").status == 200
    denied = live.farebox.check(**call, quantity=1_000, id="more")
    assert (denied.status, denied.body["code"]) == (402, "spend_limit_reached")
    assert denied.body["max_admissible"] == FREE
    assert denied.body["detail"].startswith("The customer's own spend limit is 0.00 until ")
    assert page in denied.body["detail"]
    ways = {each["action"]: each for each in denied.body["remedies"]}
    assert ways["raise_spend_limit"]["would_admit"]
    assert ways["raise_spend_limit"]["href"] == page

    browser.visit(ways["raise_spend_limit"]["href"])
    browser.submit("Set the limit", amount="100")
    assert SpendLimit.objects.get().amount == 10_000
    assert live.farebox.check(**call, quantity=1_000, id="more").status == 200


def test_the_operators_limit_is_told_apart(live: Live) -> None:
    live.farebox.post("/customers", {"external_id": "ada", "name": "Ada"})
    customer = customer_by_reference("ada")
    assert customer is not None
    give_card(customer)
    live.farebox.post("/subscriptions", {"customer": "ada", "plan": "pro"})
    set_spend_limit(customer.pk, amount=0, set_by="operator", actor="opk_1", now=datetime.now(UTC))
    call = {"customer": "ada", "meter": CALLS, "mode": "consume"}
    denied = live.farebox.check(**call, quantity=11_000, id="all")
    assert (denied.status, denied.body["max_admissible"]) == (402, 10_000 + FREE)
    assert "Only the operator can raise it." in denied.body["detail"]
    (way,) = [each for each in denied.body["remedies"] if each["action"] == "raise_spend_limit"]
    assert "href" not in way
