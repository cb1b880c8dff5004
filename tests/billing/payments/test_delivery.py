"""Events over HTTP as Stripe delivers them: signed, in any order, again until they are accepted."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from billing import tasks
from billing.models import Invoice, StripeEvent
from billing.payments import inbox
from billing.payments.pushing import push_due
from billing.payments.simulator import Simulator
from tests.factories.accounts import a_customer
from tests.factories.payments import a_pending_invoice, give_card


@pytest.mark.django_db(transaction=True)
def test_webhooks_arrive_and_the_invoice_is_paid(
    simulator: Simulator,
    live_server: LiveServer,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    now: datetime,
) -> None:
    monkeypatch.setattr(tasks.process_stripe_events, "delay", lambda: None)
    settings.STRIPE_WEBHOOK_SECRET = "whsec_not_this_one"
    simulator.send_webhooks_to(f"{live_server.url}/api/v1/stripe/webhook")
    customer = a_customer()
    give_card(customer, now=now)
    with pytest.raises(TimeoutError):
        simulator.wait_for_webhooks(timeout=1)
    assert not StripeEvent.objects.exists()

    settings.STRIPE_WEBHOOK_SECRET = simulator.webhook_secret
    invoice = a_pending_invoice(customer, now=now)
    push_due(now=now, limit=1)
    simulator.wait_for_webhooks(timeout=20)
    assert StripeEvent.objects.count() == len(simulator.events())
    inbox.process_pending(now=datetime.now(UTC), limit=100)
    invoice.refresh_from_db()
    assert invoice.status == Invoice.Status.PAID
