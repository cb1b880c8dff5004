"""Pages of Stripe: opened once for a visit, completed once, whatever comes first."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from pytest_django import Settings

from accounts.models import Customer
from billing.models import CheckoutSession, StripeCustomer, StripeEvent
from billing.operations.checkout import begin_checkout
from billing.payments import checkout
from billing.payments.simulator import Simulator, enter_card

pytestmark = pytest.mark.django_db
Deliver = Callable[[], int]


def a_visit(customer: Customer, *, now: datetime) -> CheckoutSession:
    return begin_checkout(customer.pk, actor="mem_x", now=now)


def opened(visit: CheckoutSession, *, now: datetime) -> str:
    return checkout.open_checkout(
        visit, success_url="https://x.test/ok", cancel_url="https://x.test/no", now=now
    )


def test_a_visit_opens_one_page(simulator: Simulator, customer: Customer, now: datetime) -> None:
    visit = a_visit(customer, now=now)
    url = opened(visit, now=now)
    assert url.startswith(simulator.url)
    assert (visit.status, visit.url) == ("open", url)
    assert opened(visit, now=now) == url
    (page,) = simulator.all("checkout.session")
    assert page["client_reference_id"] == visit.public_id
    assert page["mode"] == "setup"


def test_a_card_given_is_charged_from_then_on(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    visit = a_visit(customer, now=now)
    enter_card(opened(visit, now=now))
    deliver()
    visit.refresh_from_db()
    assert (visit.status, visit.completed_at is not None) == ("complete", True)
    row = StripeCustomer.objects.get(customer=customer)
    assert (row.card_brand, row.card_last4) == ("visa", "4242")
    (at_stripe,) = simulator.all("customer")
    assert at_stripe["invoice_settings"]["default_payment_method"] == row.payment_method


def test_a_late_repeat_does_not_bring_an_older_card_back(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    for number in ("4242424242424242", "5555555555554444"):
        enter_card(opened(a_visit(customer, now=now), now=now), number)
        deliver()
    assert StripeCustomer.objects.get(customer=customer).card_last4 == "4444"
    StripeEvent.objects.all().delete()  # as if every event were new again
    deliver()
    assert StripeCustomer.objects.get(customer=customer).card_last4 == "4444"


def test_a_page_whose_address_was_lost_is_found_again(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    visit = a_visit(customer, now=now)
    simulator.fault("drop_after", method="POST", path="/v1/checkout/sessions", times=3)
    with pytest.raises(checkout.StripePageUnavailable):
        opened(visit, now=now)
    url = opened(visit, now=now + timedelta(seconds=5))
    (page,) = simulator.all("checkout.session")
    assert page["url"] == url


def test_a_visit_completed_before_we_knew_its_page(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    visit = a_visit(customer, now=now)
    simulator.fault("drop_after", method="POST", path="/v1/checkout/sessions", times=3)
    with pytest.raises(checkout.StripePageUnavailable):
        opened(visit, now=now)
    enter_card(simulator.all("checkout.session")[0]["url"])
    deliver()
    visit.refresh_from_db()
    assert visit.status == "complete"
    with pytest.raises(checkout.CheckoutClosed):
        opened(visit, now=now)


def test_a_visit_that_led_nowhere_expires(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    visit = a_visit(customer, now=now)
    opened(visit, now=now)
    simulator.advance(25 * 3_600)
    deliver()
    visit.refresh_from_db()
    assert visit.status == "expired"


def test_the_portal_changes_the_card(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    url = checkout.open_portal(customer, return_url="https://x.test/portal", now=now)
    assert checkout.open_portal(customer, return_url="https://x.test/portal", now=now) != url
    enter_card(url, "378282246310005")
    deliver()
    assert StripeCustomer.objects.get(customer=customer).card_brand == "amex"


@pytest.mark.parametrize("fault", ["500", "429", "drop_before"])
def test_a_page_that_stripe_does_not_open(
    simulator: Simulator, customer: Customer, now: datetime, fault: str
) -> None:
    simulator.fault(fault, method="POST", times=9)
    with pytest.raises(checkout.StripePageUnavailable):
        checkout.open_portal(customer, return_url="https://x.test", now=now)


def test_without_a_stripe_there_is_no_page(
    customer: Customer, now: datetime, settings: Settings
) -> None:
    settings.STRIPE_API_KEY = settings.STRIPE_API_BASE = ""
    with pytest.raises(checkout.StripePageUnavailable):
        opened(a_visit(customer, now=now), now=now)
