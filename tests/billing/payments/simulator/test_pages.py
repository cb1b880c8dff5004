"""The pages people click: Checkout, portal, hosted invoice, overview."""

from __future__ import annotations

from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import stripe

from billing.payments.simulator import Simulator, enter_card
from tests.billing.payments.simulator.conftest import SUCCESS_URL, issued, kinds, with_card


def read(url: str) -> str:
    with urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def setup_session(client: stripe.StripeClient, customer: stripe.Customer) -> Any:
    return client.v1.checkout.sessions.create(
        {
            "mode": "setup",
            "customer": customer.id,
            "success_url": SUCCESS_URL,
            "cancel_url": "https://farebox.test/back",
        }
    )


def test_the_form_has_labels_and_shows_the_test_cards(
    client: stripe.StripeClient, customer: stripe.Customer
) -> None:
    html = read(setup_session(client, customer).url)
    for field in ("card_number", "expiry", "cvc", "name"):
        assert f'<label for="{field}">' in html
        assert f'id="{field}" name="{field}"' in html
    assert "4000 0000 0000 0341" in html
    assert "https://farebox.test/back" in html
    assert "<script" not in html
    assert "Ada" in html


def test_text_from_outside_is_escaped(client: stripe.StripeClient) -> None:
    customer = client.v1.customers.create({"name": "<b>Eve</b>"})
    html = read(setup_session(client, customer).url)
    assert "<b>Eve" not in html
    assert "&lt;b&gt;Eve" in html


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        ("4000000000000002", "Your card was declined."),
        ("4000000000009995", "insufficient funds"),
        ("4242424242424241", "number is incorrect"),
        ("4111111111111111", "non test card"),
        ("nonsense", "number is incorrect"),
    ],
)
def test_a_refused_card_leaves_the_session_open(
    client: stripe.StripeClient,
    simulator: Simulator,
    customer: stripe.Customer,
    number: str,
    reason: str,
) -> None:
    session = setup_session(client, customer)
    with pytest.raises(ValueError, match=reason):
        enter_card(session.url, number)
    assert client.v1.checkout.sessions.retrieve(session.id).status == "open"
    assert client.v1.payment_methods.list({"customer": customer.id}).data == []
    assert "checkout.session.completed" not in kinds(simulator)
    enter_card(session.url)
    assert client.v1.checkout.sessions.retrieve(session.id).status == "complete"


def test_a_wrong_expiry_is_refused(client: stripe.StripeClient, customer: stripe.Customer) -> None:
    session = setup_session(client, customer)
    with pytest.raises(ValueError, match="expiration date"):
        enter_card(session.url, expiry="13 / 34")


def test_three_d_secure_on_checkout(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    session = setup_session(client, customer)
    with pytest.raises(ValueError, match="unable to authenticate"):
        enter_card(session.url, "4000002500003155", authenticate=False)
    assert "setup_intent.setup_failed" in kinds(simulator)
    assert enter_card(session.url, "4000002500003155").startswith("https://farebox.test/done")
    (method,) = client.v1.payment_methods.list({"customer": customer.id}).data
    client.v1.customers.update(
        customer.id, {"invoice_settings": {"default_payment_method": method.id}}
    )
    assert issued(client, customer, 1000).status == "paid"


def test_a_finished_or_expired_session_takes_no_card(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    done, late = setup_session(client, customer), setup_session(client, customer)
    enter_card(done.url)
    with pytest.raises(ValueError, match="HTTP 400"):
        enter_card(done.url)
    assert "completed already" in read(done.url)
    expired = client.v1.checkout.sessions.expire(late.id)
    assert (expired.status, expired.url) == ("expired", None)
    assert "expired" in read(late.url)
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.checkout.sessions.expire(done.id)
    third = setup_session(client, customer)
    simulator.advance(86_401)
    assert client.v1.checkout.sessions.retrieve(third.id).status == "expired"
    assert kinds(simulator)[-1] == "checkout.session.expired"


def test_checkout_takes_one_payment(client: stripe.StripeClient, simulator: Simulator) -> None:
    product = client.v1.products.create({"name": "1,000 credits"})
    price = client.v1.prices.create({"product": product.id, "currency": "usd", "unit_amount": 1000})
    session = client.v1.checkout.sessions.create(
        {
            "mode": "payment",
            "line_items": [{"price": price.id, "quantity": 2}],
            "customer_creation": "always",
            "payment_intent_data": {
                "setup_future_usage": "off_session",
                "metadata": {"top_up": "7"},
            },
            "success_url": SUCCESS_URL,
        }
    )
    assert session.amount_total == 2000
    assert 'for="email"' in read(session.url or "")
    with pytest.raises(ValueError, match="declined"):
        enter_card(session.url or "", "4000000000000341", email="ada@example.com")
    enter_card(session.url or "", email="ada@example.com")
    done = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["line_items"]})
    assert (done.status, done.payment_status) == ("complete", "paid")
    assert done.line_items is not None
    assert done.line_items.data[0].amount_total == 2000
    intent = client.v1.payment_intents.retrieve(str(done.payment_intent))
    assert intent.status == "succeeded"
    assert intent.metadata.to_dict() == {"top_up": "7"}
    customer = client.v1.customers.retrieve(str(done.customer))
    assert customer.email == "ada@example.com"
    assert len(client.v1.payment_methods.list({"customer": customer.id}).data) == 1
    assert len([c for c in simulator.all("charge") if c["paid"]]) == 1


def test_checkout_starts_a_subscription(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    session = client.v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "customer": customer.id,
            "line_items": [
                {
                    "price_data": {
                        "currency": "usd",
                        "product_data": {"name": "Pro"},
                        "unit_amount": 2900,
                        "recurring": {"interval": "month"},
                    },
                    "quantity": 1,
                }
            ],
            "subscription_data": {"metadata": {"plan": "pro"}},
            "success_url": SUCCESS_URL,
        }
    )
    enter_card(session.url or "", "4000002760003184")
    done = client.v1.checkout.sessions.retrieve(session.id)
    subscription = client.v1.subscriptions.retrieve(str(done.subscription))
    assert subscription.status == "active"
    assert subscription.metadata.to_dict() == {"plan": "pro"}
    invoice = client.v1.invoices.retrieve(str(done.invoice))
    assert (invoice.status, invoice.amount_paid) == ("paid", 2900)
    assert "customer.subscription.created" in kinds(simulator)


def test_the_portal_looks_after_cards_and_subscriptions(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    with_card(client, customer, "pm_card_visa")
    invoice = issued(client, customer, 1000)
    portal = client.v1.billing_portal.sessions.create(
        {"customer": customer.id, "return_url": "https://farebox.test/billing"}
    )
    enter_card(portal.url, "5555555555554444")
    html = read(portal.url)
    assert "Mastercard ending in 4444" in html
    assert str(invoice.number) in html
    assert "https://farebox.test/billing" in html
    newest, oldest = client.v1.payment_methods.list({"customer": customer.id}).data
    press(f"{portal.url}/default", payment_method=oldest.id)
    settings = client.v1.customers.retrieve(customer.id).invoice_settings
    assert settings is not None
    assert settings.default_payment_method == oldest.id
    press(f"{portal.url}/remove", payment_method=newest.id)
    assert len(client.v1.payment_methods.list({"customer": customer.id}).data) == 1
    assert kinds(simulator)[-1] == "payment_method.detached"


def test_a_portal_flow_returns_by_itself(
    client: stripe.StripeClient, customer: stripe.Customer
) -> None:
    portal = client.v1.billing_portal.sessions.create(
        {
            "customer": customer.id,
            "return_url": "https://farebox.test/billing",
            "flow_data": {
                "type": "payment_method_update",
                "after_completion": {
                    "type": "redirect",
                    "redirect": {"return_url": "https://farebox.test/card-saved"},
                },
            },
        }
    )
    assert enter_card(portal.url) == "https://farebox.test/card-saved"


def test_a_foreign_card_cannot_be_touched_from_a_portal(
    client: stripe.StripeClient, payer: stripe.Customer
) -> None:
    other = client.v1.customers.create({"name": "Eve"})
    portal = client.v1.billing_portal.sessions.create({"customer": other.id})
    (method,) = client.v1.payment_methods.list({"customer": payer.id}).data
    with pytest.raises(HTTPError):
        press(f"{portal.url}/remove", payment_method=method.id)
    assert client.v1.payment_methods.retrieve(method.id).customer == payer.id


def test_the_invoice_page_takes_the_saved_card_and_three_d_secure(
    client: stripe.StripeClient, customer: stripe.Customer
) -> None:
    with_card(client, customer, "pm_card_authenticationRequired")
    invoice = issued(client, customer, 1000)
    assert invoice.status == "open"
    page = str(invoice.hosted_invoice_url)
    assert "with the saved card" in read(page)
    assert "10.00 USD" in read(page)
    assert enter_card(page, "4000002760003184") == page
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"
    assert "paid" in read(page)
    assert "10.00 USD" in read(str(invoice.invoice_pdf))


def test_the_overview_lists_what_there_is_and_moves_the_clock(
    client: stripe.StripeClient, simulator: Simulator, payer: stripe.Customer
) -> None:
    invoice = issued(client, payer, 1000)
    html = read(simulator.url)
    for text in (str(invoice.number), payer.id, "invoice.paid", "1 day"):
        assert text in html
    before = simulator.now()
    press(f"{simulator.url}/_simulator/clock", advance="86400")
    assert simulator.now() >= before + 86_400


@pytest.mark.parametrize("path", ["checkout/cs_test_none", "portal/bps_none", "invoices/in_none"])
def test_unknown_pages_are_not_found(simulator: Simulator, path: str) -> None:
    with pytest.raises(HTTPError) as refused:
        read(f"{simulator.url}/{path}")
    assert refused.value.code == 404
    refused.value.close()


def press(url: str, **fields: str) -> None:
    from urllib.parse import urlencode

    with urlopen(url, urlencode(fields).encode(), timeout=10):
        pass


def test_a_portal_asks_for_three_d_secure(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    portal = client.v1.billing_portal.sessions.create({"customer": customer.id})
    with pytest.raises(ValueError, match="unable to authenticate"):
        enter_card(portal.url, "4000002760003184", authenticate=False)
    with pytest.raises(ValueError, match="declined"):
        enter_card(portal.url, "4000000000000002")
    assert client.v1.payment_methods.list({"customer": customer.id}).data == []
    assert enter_card(portal.url, "4000002760003184") == portal.url
    (method,) = client.v1.payment_methods.list({"customer": customer.id}).data
    settings = client.v1.customers.retrieve(customer.id).invoice_settings
    assert settings is not None
    assert settings.default_payment_method == method.id
    assert kinds(simulator).count("setup_intent.setup_failed") == 2


def test_a_subscription_is_canceled_from_the_portal(
    client: stripe.StripeClient, payer: stripe.Customer
) -> None:
    price = client.v1.prices.create(
        {
            "currency": "usd",
            "unit_amount": 2900,
            "recurring": {"interval": "week"},
            "product_data": {"name": "Pro"},
        }
    )
    subscription = client.v1.subscriptions.create(
        {"customer": payer.id, "items": [{"price": price.id}]}
    )
    portal = client.v1.billing_portal.sessions.create(
        {
            "customer": payer.id,
            "flow_data": {
                "type": "subscription_cancel",
                "subscription_cancel": {"subscription": subscription.id},
            },
        }
    )
    assert "Cancel at period end" in read(portal.url)
    press(f"{portal.url}/cancel", subscription=subscription.id)
    assert client.v1.subscriptions.retrieve(subscription.id).cancel_at_period_end
    assert "ends" in read(portal.url)
    stranger = client.v1.customers.create({"name": "Eve"})
    foreign = client.v1.billing_portal.sessions.create({"customer": stranger.id})
    with pytest.raises(HTTPError) as refused:
        press(f"{foreign.url}/cancel", subscription=subscription.id)
    refused.value.close()


def test_portals_can_be_configured(client: stripe.StripeClient) -> None:
    made = client.v1.billing_portal.configurations.create(
        {
            "features": {
                "invoice_history": {"enabled": True},
                "payment_method_update": {"enabled": True},
            },
            "default_return_url": "https://farebox.test/billing",
        }
    )
    assert made.features.invoice_history.enabled
    assert not made.features.subscription_cancel.enabled


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"mode": "setup", "success_url": SUCCESS_URL}, "currency"),
        ({"mode": "payment", "success_url": SUCCESS_URL}, "line_items"),
        ({"mode": "setup", "currency": "usd"}, "success_url"),
        (
            {"mode": "setup", "currency": "usd", "success_url": SUCCESS_URL, "expires_at": 5},
            "expires_at",
        ),
        (
            {
                "mode": "payment",
                "success_url": SUCCESS_URL,
                "line_items": [
                    {
                        "price_data": {
                            "currency": "usd",
                            "product_data": {"name": "Pro"},
                            "unit_amount": 2900,
                            "recurring": {"interval": "month"},
                        }
                    }
                ],
            },
            "line_items[0][price]",
        ),
    ],
)
def test_wrong_sessions_are_refused(
    client: stripe.StripeClient, simulator: Simulator, params: Any, param: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.checkout.sessions.create(params)
    assert refused.value.param == param
    assert simulator.everything() == []


def test_the_saved_card_pays_by_one_button(
    client: stripe.StripeClient, customer: stripe.Customer
) -> None:
    invoice = issued(client, customer, 1000)
    with_card(client, customer, "pm_card_visa")
    (method,) = client.v1.payment_methods.list({"customer": customer.id}).data
    other = client.v1.customers.create({"name": "Eve"})
    foreign = client.v1.payment_methods.attach("pm_card_visa", {"customer": other.id})
    with pytest.raises(HTTPError) as refused:
        press(str(invoice.hosted_invoice_url), saved=foreign.id)
    refused.value.close()
    assert client.v1.invoices.retrieve(invoice.id).status == "open"
    press(str(invoice.hosted_invoice_url), saved=method.id)
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"
