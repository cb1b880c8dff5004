"""The portal's first page and invoices: what is shown, and to whom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from accounts.models import Customer
from accounts.operations.customers import suspend_customer
from billing.models import Invoice
from billing.operations import collecting, crediting, subscribing
from tests.billing.pages.conftest import signed_in
from tests.factories.accounts import a_customer, a_member
from tests.factories.billing import a_plan, a_subscription, bill, calls
from tests.factories.metering import make_meter, report

PAGES = ["/portal", "/portal/plans", "/portal/payment-method"]
TIERS = {
    "model": "graduated",
    "tiers": [{"up_to": 100, "unit_price": "0.01"}, {"up_to": None, "unit_price": "0.005"}],
}


@pytest.fixture
def invoice(customer: Customer, now: datetime) -> Invoice:
    """A month of 1,250 calls, of which 1,000 are included, and 900 in the next."""
    meter, start = make_meter(key="chat.tokens"), now - timedelta(days=40)
    plan = a_plan(calls(meter, price=TIERS), {"type": "static", "feature": "region", "value": "eu"})
    subscription = a_subscription(plan, customer=customer, start_at=start, now=start)
    report(customer, meter, 1_250, at=start + timedelta(days=1))
    made = bill(subscription, now=now)
    report(customer, meter, 900, at=now - timedelta(hours=1))
    return made


def html(client: Client, path: str = "/portal") -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer
    assert "no-store" in answer["Cache-Control"] or "max-age=0" in answer["Cache-Control"]
    return answer.content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("path", [*PAGES, "/portal/plans/pro", "/portal/checkout/done?visit=chk_x"])
def test_strangers_are_sent_to_sign_in(path: str) -> None:
    answer = Client().get(path)
    assert answer.status_code == 302
    assert answer["Location"].startswith("/sign-in?next=/portal")


@pytest.mark.django_db
@pytest.mark.parametrize("path", PAGES)
def test_the_operators_people_are_shown_the_way_to_the_admin(path: str) -> None:
    staff = a_member(None, is_staff=True)
    page = signed_in(staff).get(path).content.decode()
    assert 'href="/admin/"' in page
    assert "customers' portal" in page


def test_a_newcomer_is_offered_plans(browser: Client) -> None:
    page = html(browser)
    assert "You have no plan yet" in page
    assert "Calls are denied: no subscription" in page
    assert "No payment method yet" in page
    assert "No invoices yet" in page


def test_plan_balances_and_invoices_are_shown(browser: Client, invoice: Invoice) -> None:
    page = html(browser)
    assert "$20.00 a month" in page
    assert "900 of 1,000 used, 100 left" in page
    assert '<meter min="0" max="1000"' in page
    assert 'aria-labelledby="meter-1"' in page
    assert "region: eu" in page
    assert "Visa ending in 4242" in page
    assert str(invoice.number) in page
    assert "$21.75" in page
    assert 'role="alert"' not in page
    assert "<script" not in page
    assert "style=" not in page


def test_an_invoice_is_explained_tier_by_tier(browser: Client, invoice: Invoice) -> None:
    page = html(browser, f"/portal/invoices/{invoice.public_id}")
    assert "1,250 used, 1,000 included" in page
    assert "101 to 250" in page
    assert "$0.005" in page
    assert "$21.75" in page


def test_paid_and_credited_invoices_say_so(
    browser: Client, invoice: Invoice, now: datetime
) -> None:
    at_stripe = "https://pay.stripe.test/in_1"
    collecting.mark_pushed(invoice.id, stripe_invoice="in_1", hosted_url=at_stripe, now=now)
    assert f'href="{at_stripe}">Pay' in html(browser)
    collecting.mark_paid(invoice.id, amount_paid=2_175, reference="pi_1", attempt=1, now=now)
    crediting.credit_note(invoice.id, amount=100, reason="sorry", actor="opk_1", now=now)
    assert f'href="{at_stripe}">Receipt' in html(browser)
    page = html(browser, f"/portal/invoices/{invoice.public_id}")
    assert "$1.00: sorry" in page
    assert "Paid" in page


def test_a_failed_payment_first_warns_then_denies_with_the_way_out(
    browser: Client, invoice: Invoice, now: datetime
) -> None:
    at_stripe = "https://pay.stripe.test/in_1"
    collecting.mark_pushed(invoice.id, stripe_invoice="in_1", hosted_url=at_stripe, now=now)
    collecting.mark_payment_failed(invoice.id, attempt=1, code="card_declined", now=now)
    page = html(browser)
    assert "A payment did not come through" in page
    assert 'role="alert"' not in page
    Invoice.objects.get(pk=invoice.pk).attempts.update(at=now - timedelta(days=9))
    collecting.mark_payment_failed(invoice.id, attempt=2, code="card_declined", now=now)
    page = html(browser)
    assert "Calls are denied: payment failed" in page
    assert 'role="alert"' in page
    assert f'href="{at_stripe}">Pay it now' in page
    assert 'href="/portal/payment-method">Change the payment method' in page


def test_suspension_and_endings_are_said(
    browser: Client, customer: Customer, invoice: Invoice, now: datetime
) -> None:
    subscription = customer.subscriptions.get()
    subscribing.cancel(subscription.id, when="period_end", actor="opk_1", now=now)
    assert "Your plan is ending" in html(browser)
    suspend_customer(customer.id, reason="", actor="opk_1", now=now)
    assert "Your account is suspended" in html(browser)


@pytest.mark.parametrize(
    ("trial_end", "card", "words"),
    [
        ("wait", True, "Afterwards Pro goes on: $20.00 a month."),
        ("wait", False, "calls are denied until you add a payment method"),
        ("cancel", False, "Your plan ends with it unless you add a payment method."),
        ("plan:free", False, "Afterwards you are on Free, unless you add a payment method."),
    ],
)
def test_the_end_of_a_trial_is_said_ahead(
    browser: Client, customer: Customer, now: datetime, trial_end: str, card: bool, words: str
) -> None:
    a_plan(key="free", fee=0)
    pro = a_plan(key="pro", trial_days=14, trial_end=trial_end)
    a_subscription(pro, customer=customer, card=card, start_at=now, now=now)
    page = browser.get("/portal").content.decode()
    assert "Your trial ends on" in page
    assert words in page
    assert ("Add a payment method" in page) is not card


def test_what_is_used_up_links_to_the_plans(
    browser: Client, customer: Customer, now: datetime
) -> None:
    meter = make_meter(key="api.calls")
    plan = a_plan(calls(meter, included=10, price=None), fee=0)
    a_subscription(plan, customer=customer, start_at=now, now=now)
    report(customer, meter, 10, at=datetime.now(UTC))
    page = html(browser)
    assert "Used up" in page
    assert "Upgrade for more" in page


def test_nobody_sees_another_customers_pages(browser: Client, invoice: Invoice) -> None:
    other = signed_in(a_member(a_customer(name="Other")))
    assert other.get(f"/portal/invoices/{invoice.public_id}").status_code == 404
    page = html(other)
    assert "Acme" not in page
    assert str(invoice.number) not in page


@pytest.mark.parametrize("invoice_id", ["nothing", "inv_000000000009", "sub_000000000009"])
def test_unknown_invoices_are_404(browser: Client, invoice_id: str) -> None:
    assert browser.get(f"/portal/invoices/{invoice_id}").status_code == 404
