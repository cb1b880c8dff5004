"""Choosing a plan in the portal: at once, at the period's end, or by way of Checkout."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest
from django.test import Client

from accounts.models import AuditEntry, Customer, Member
from billing.models import CheckoutSession, StripeCustomer, Subscription
from billing.operations import catalogue, collecting
from billing.payments.simulator import Simulator, enter_card
from billing.queries.catalogue import active_version
from billing.queries.subscriptions import current_subscription
from tests.billing.pages.conftest import signed_in
from tests.factories.accounts import a_customer, a_member
from tests.factories.billing import a_plan, a_subscription, bill, calls, give_card
from tests.factories.metering import make_meter

Deliver = Callable[[], int]


@pytest.fixture(autouse=True)
def catalogue_of_plans(db: None) -> None:
    meter = make_meter(key="chat.tokens")
    package = {"model": "package", "package_size": 1_000, "package_price": "0.50"}
    a_plan(calls(meter, included=100, price=None), key="free", fee=0)
    a_plan(calls(meter), {"type": "boolean", "feature": "sso"}, key="pro", fee=2_000, minimum=500)
    a_plan(calls(meter, included=9_000, price=package, overage_limit=5), key="scale", fee=9_000)
    a_plan(key="secret", public=False)
    a_plan(key="euro", currency="eur")


def plan_of(customer: Customer) -> str:
    subscription = current_subscription(customer.id)
    return subscription.version.plan.key if subscription else ""


def test_plans_are_compared(browser: Client) -> None:
    page = browser.get("/portal/plans").content.decode()
    assert "1,000 chat.tokens a month, then $0.01 each" in page
    assert "$0.50 for every 1,000, 5 at most" in page
    assert "$5.00 a month at least" in page
    assert "Choose Free" in page
    assert "Secret" not in page
    assert "Euro" not in page


@pytest.mark.parametrize("key", ["secret", "euro", "nothing"])
def test_what_is_not_offered_is_404(browser: Client, key: str) -> None:
    assert browser.get(f"/portal/plans/{key}").status_code == 404
    assert browser.post(f"/portal/plans/{key}").status_code == 404
    assert not Subscription.objects.exists()


def test_a_free_plan_begins_at_once(browser: Client, customer: Customer, member: Member) -> None:
    assert "Start Free" in browser.get("/portal/plans/free").content.decode()
    page = browser.post("/portal/plans/free", follow=True)
    assert "You are on Free now." in page.content.decode()
    assert plan_of(customer) == "free"
    entry = AuditEntry.objects.get(action="subscription.created")
    assert entry.actor == member.public_id
    assert "This is your plan" in browser.get("/portal/plans/free").content.decode()


def test_a_dearer_plan_takes_over_now_and_a_cheaper_one_later(
    browser: Client, customer: Customer, now: datetime
) -> None:
    give_card(customer)
    assert "Start Pro" in browser.get("/portal/plans/pro").content.decode()
    browser.post("/portal/plans/pro")
    page = browser.get("/portal/plans/scale").content.decode()
    assert "takes over <strong>now</strong>" in page
    assert "Change now" in page
    assert plan_of(customer) == "pro"
    browser.post("/portal/plans/scale")
    assert plan_of(customer) == "scale"
    assert "when the current period ends" in browser.get("/portal/plans/pro").content.decode()
    page = browser.post("/portal/plans/pro", follow=True).content.decode()
    assert "Pro takes over on" in page
    assert plan_of(customer) == "scale"
    assert "Takes over on" in browser.get("/portal/plans/pro").content.decode()
    assert "Stay on Scale" in browser.get("/portal/plans/scale").content.decode()
    browser.post("/portal/plans/scale")
    subscription = current_subscription(customer.id)
    assert subscription is not None
    assert subscription.pending_version is None


def test_the_whole_way_through_checkout(
    browser: Client, customer: Customer, simulator: Simulator, deliver: Deliver
) -> None:
    browser.post("/portal/plans/free")
    assert "Go on to Checkout" in browser.get("/portal/plans/pro").content.decode()
    leading = browser.post("/portal/plans/pro")
    assert leading.status_code == 302
    assert leading["Location"].startswith(simulator.url)
    assert browser.post("/portal/plans/pro")["Location"] == leading["Location"]
    assert plan_of(customer) == "free"
    enter_card(leading["Location"])
    back = simulator.all("checkout.session")[0]["success_url"]
    page = browser.get(back, follow=True).content.decode()
    assert "You chose Pro" in page
    assert "Visa ending in 4242" in page
    assert plan_of(customer) == "pro"
    # The webhook comes later, and the customer reloads: nothing happens twice.
    deliver()
    browser.get(back)
    assert plan_of(customer) == "pro"
    assert CheckoutSession.objects.get().status == "complete"
    assert AuditEntry.objects.filter(action="checkout.completed").count() == 1


def test_coming_back_before_the_card_was_given_waits(
    browser: Client, customer: Customer, simulator: Simulator
) -> None:
    browser.post("/portal/plans/pro")
    visit = CheckoutSession.objects.get()
    path = f"/portal/checkout/done?visit={visit.public_id}"
    assert "Almost done" in browser.get(path).content.decode()
    simulator.fault("drop_before", method="GET", path="/v1/checkout/sessions", times=9)
    assert "Almost done" in browser.get(path).content.decode()
    assert plan_of(customer) == ""


def test_others_cannot_come_back_from_this_visit(
    browser: Client, customer: Customer, simulator: Simulator
) -> None:
    leading = browser.post("/portal/plans/pro")
    enter_card(leading["Location"])
    visit = CheckoutSession.objects.get()
    other = signed_in(a_member(a_customer()))
    path = f"/portal/checkout/done?visit={visit.public_id}"
    assert other.get(path).status_code == 404
    assert other.get("/portal/checkout/done?visit=chk_nothing").status_code == 404
    assert other.get("/portal/checkout/done").status_code == 404
    visit.refresh_from_db()
    assert (visit.status, plan_of(customer)) == ("open", "")


def test_a_payment_method_alone(browser: Client, customer: Customer, simulator: Simulator) -> None:
    assert "There is none yet" in browser.get("/portal/payment-method").content.decode()
    leading = browser.post("/portal/payment-method", {"where": "checkout"})
    enter_card(leading["Location"])
    back = simulator.all("checkout.session")[0]["success_url"]
    assert "payment method is saved" in browser.get(back, follow=True).content.decode()
    assert StripeCustomer.objects.get().card_last4 == "4242"
    assert plan_of(customer) == ""
    assert "ending in 4242" in browser.get("/portal/payment-method").content.decode()
    leading = browser.post("/portal/payment-method", {"where": "portal"})
    assert leading["Location"].startswith(simulator.url)


def test_a_stripe_that_is_down_is_said_plainly(
    browser: Client, customer: Customer, simulator: Simulator
) -> None:
    simulator.fault("drop_before", method="POST", path="/v1/customers", times=50)
    for path in ("/portal/plans/pro", "/portal/payment-method"):
        page = browser.post(path, follow=True)
        assert page.status_code == 200
        assert "does not open at the moment" in page.content.decode()
    assert plan_of(customer) == ""


def test_who_owes_pays_first(browser: Client, customer: Customer, now: datetime) -> None:
    subscription = a_subscription(a_plan(key="basic", fee=500), customer=customer)
    invoice = bill(subscription, now=now)
    collecting.mark_payment_failed(invoice.id, attempt=1, code="card_declined", now=now)
    page = browser.get("/portal/plans/pro").content.decode()
    assert "Pay the open invoice" in page
    assert '<button type="submit">Change' not in page
    page = browser.post("/portal/plans/pro", follow=True).content.decode()
    assert "Pay the open invoice" in page
    assert plan_of(customer) == "basic"


def test_a_plan_that_went_off_sale_is_404(
    browser: Client, customer: Customer, now: datetime
) -> None:
    pro = active_version("pro")
    catalogue.archive_plan(pro.plan_id, actor="opk_1", now=now)
    assert browser.post("/portal/plans/pro").status_code == 404


@pytest.mark.parametrize("path", ["/portal/plans/free", "/portal/payment-method"])
def test_a_post_without_its_token_moves_nothing(member: Member, path: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(member, backend="django.contrib.auth.backends.ModelBackend")
    assert client.post(path).status_code == 403
    assert not Subscription.objects.exists()
    assert not CheckoutSession.objects.exists()
