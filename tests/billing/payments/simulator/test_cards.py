"""Payment methods, setup intents and payment intents."""

from __future__ import annotations

import pytest
import stripe

from billing.payments.simulator import Simulator
from tests.billing.payments.simulator.conftest import kinds


def test_attaching_a_test_id_makes_a_fresh_card(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    one = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    two = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    assert one.id != two.id
    assert one.card is not None
    assert (one.card.brand, one.card.last4) == ("visa", "4242")
    listed = client.v1.customers.payment_methods.list(customer.id, {"type": "card"})
    assert [method.id for method in listed.data] == [two.id, one.id]
    gone = client.v1.payment_methods.detach(one.id)
    assert gone.customer is None
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.payment_methods.attach(one.id, {"customer": customer.id})
    assert kinds(simulator).count("payment_method.attached") == 2
    assert kinds(simulator)[-1] == "payment_method.detached"


def test_detaching_the_default_card_unsets_it(
    client: stripe.StripeClient, payer: stripe.Customer
) -> None:
    assert payer.invoice_settings is not None
    client.v1.payment_methods.detach(str(payer.invoice_settings.default_payment_method))
    after = client.v1.customers.retrieve(payer.id)
    assert after.invoice_settings is not None
    assert after.invoice_settings.default_payment_method is None


def test_a_declined_card_cannot_be_attached(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    with pytest.raises(stripe.CardError) as refused:
        client.v1.payment_methods.attach("pm_card_chargeDeclined", {"customer": customer.id})
    assert refused.value.code == "card_declined"
    assert client.v1.payment_methods.list({"customer": customer.id}).data == []
    assert "payment_method.attached" not in kinds(simulator)


def test_another_customers_card_cannot_be_the_default(
    client: stripe.StripeClient, payer: stripe.Customer
) -> None:
    assert payer.invoice_settings is not None
    foreign = str(payer.invoice_settings.default_payment_method)
    other = client.v1.customers.create({"name": "Bob"})
    with pytest.raises(stripe.InvalidRequestError, match="must be attached to the customer"):
        client.v1.customers.update(
            other.id, {"invoice_settings": {"default_payment_method": foreign}}
        )


def test_cards_are_changed_where_they_are(
    client: stripe.StripeClient, payer: stripe.Customer
) -> None:
    assert payer.invoice_settings is not None
    method = str(payer.invoice_settings.default_payment_method)
    changed = client.v1.payment_methods.update(
        method,
        {
            "billing_details": {"name": "Ada L.", "address": {"country": "GB"}},
            "card": {"exp_month": 1, "exp_year": 2040},
            "metadata": {"seen": "yes"},
        },
    )
    assert changed.card is not None
    assert changed.card.exp_year == 2040
    assert changed.billing_details.name == "Ada L."
    assert client.v1.customers.payment_methods.retrieve(payer.id, method).id == method


def test_setup_intents_save_cards(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    setup = client.v1.setup_intents.create(
        {
            "customer": customer.id,
            "usage": "off_session",
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        }
    )
    assert setup.status == "requires_payment_method"
    done = client.v1.setup_intents.confirm(setup.id, {"payment_method": "pm_card_visa"})
    assert done.status == "succeeded"
    saved = client.v1.payment_methods.retrieve(str(done.payment_method))
    assert saved.customer == customer.id
    assert {"setup_intent.created", "setup_intent.succeeded"} <= set(kinds(simulator))
    with pytest.raises(stripe.CardError) as refused:
        client.v1.setup_intents.create(
            {"customer": customer.id, "confirm": True, "payment_method": "pm_card_chargeDeclined"}
        )
    assert refused.value.error is not None
    assert refused.value.error.setup_intent is not None
    waiting = client.v1.setup_intents.create(
        {
            "customer": customer.id,
            "confirm": True,
            "payment_method": "pm_card_authenticationRequired",
        }
    )
    assert waiting.status == "requires_action"
    assert client.v1.setup_intents.cancel(waiting.id).status == "canceled"


def test_payment_intents_charge_off_session(
    client: stripe.StripeClient, simulator: Simulator, payer: stripe.Customer
) -> None:
    assert payer.invoice_settings is not None
    intent = client.v1.payment_intents.create(
        {
            "amount": 2000,
            "currency": "usd",
            "customer": payer.id,
            "payment_method": str(payer.invoice_settings.default_payment_method),
            "off_session": True,
            "confirm": True,
            "metadata": {"top_up": "1"},
        }
    )
    assert (intent.status, intent.amount_received) == ("succeeded", 2000)
    charge = client.v1.charges.retrieve(str(intent.latest_charge), {"expand": ["customer"]})
    assert charge.paid
    assert isinstance(charge.customer, stripe.Customer)
    assert client.v1.balance.retrieve().available[0].amount == 2000
    assert kinds(simulator)[-2:] == ["charge.succeeded", "payment_intent.succeeded"]


@pytest.mark.parametrize(
    ("test_id", "code"),
    [
        ("pm_card_chargeDeclined", "card_declined"),
        ("pm_card_authenticationRequired", "authentication_required"),
    ],
)
def test_payment_intents_are_refused(
    client: stripe.StripeClient, customer: stripe.Customer, test_id: str, code: str
) -> None:
    with pytest.raises(stripe.CardError) as refused:
        client.v1.payment_intents.create(
            {
                "amount": 2000,
                "currency": "usd",
                "customer": customer.id,
                "payment_method": test_id,
                "off_session": True,
                "confirm": True,
            }
        )
    assert refused.value.code == code
    assert refused.value.error is not None
    intent = refused.value.error.payment_intent
    assert intent is not None
    assert intent.status == "requires_payment_method"
    assert client.v1.balance.retrieve().available[0].amount == 0
    paid = client.v1.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"})
    assert paid.status == "succeeded"
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.payment_intents.cancel(intent.id)


def test_too_small_amounts_are_refused(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.create({"amount": 49, "currency": "usd"})
    assert refused.value.code == "amount_too_small"
    intent = client.v1.payment_intents.create({"amount": 50, "currency": "usd"})
    changed = client.v1.payment_intents.update(intent.id, {"amount": 80, "description": "x"})
    assert changed.amount == 80
    assert client.v1.payment_intents.cancel(intent.id).status == "canceled"
