"""Products, prices and simple subscriptions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import stripe

from billing.payments.simulator import Simulator
from tests.billing.payments.simulator.conftest import kinds, with_card

DAY = 86_400


@pytest.fixture
def price(client: stripe.StripeClient) -> stripe.Price:
    return client.v1.prices.create(
        {
            "currency": "usd",
            "unit_amount": 2900,
            "recurring": {"interval": "month"},
            "product_data": {"name": "Pro"},
            "lookup_key": "pro",
        }
    )


def subscribe(
    client: stripe.StripeClient, customer: stripe.Customer, price: stripe.Price
) -> stripe.Subscription:
    return client.v1.subscriptions.create(
        {"customer": customer.id, "items": [{"price": price.id, "quantity": 2}]}
    )


def test_a_subscription_is_charged_now_and_every_month(
    client: stripe.StripeClient,
    simulator: Simulator,
    payer: stripe.Customer,
    price: stripe.Price,
) -> None:
    simulator.set_clock(int(datetime(2035, 1, 31, 12, tzinfo=UTC).timestamp()))
    subscription = subscribe(client, payer, price)
    assert (subscription.status, subscription.currency) == ("active", "usd")
    invoice = client.v1.invoices.retrieve(str(subscription.latest_invoice))
    assert (invoice.status, invoice.amount_paid) == ("paid", 5800)
    assert invoice.billing_reason == "subscription_create"
    assert invoice.parent is not None
    assert invoice.parent.subscription_details is not None
    assert invoice.parent.subscription_details.subscription == subscription.id
    ends = subscription["items"].data[0].current_period_end
    assert datetime.fromtimestamp(ends, UTC).date().isoformat() == "2035-02-28"
    simulator.advance(60 * DAY)
    renewed = client.v1.subscriptions.retrieve(subscription.id)
    ends = renewed["items"].data[0].current_period_end
    assert datetime.fromtimestamp(ends, UTC).date().isoformat() == "2035-04-30"
    invoices = client.v1.invoices.list({"subscription": subscription.id}).data
    assert [i.billing_reason for i in invoices] == [
        "subscription_cycle",
        "subscription_cycle",
        "subscription_create",
    ]
    assert kinds(simulator).count("customer.subscription.updated") == 2


def test_a_declined_first_charge_leaves_it_incomplete(
    client: stripe.StripeClient, customer: stripe.Customer, price: stripe.Price
) -> None:
    with_card(client, customer, "pm_card_chargeCustomerFail")
    subscription = subscribe(client, customer, price)
    assert subscription.status == "incomplete"
    with_card(client, customer, "pm_card_visa")
    client.v1.invoices.pay(str(subscription.latest_invoice))
    assert client.v1.subscriptions.retrieve(subscription.id).status == "active"


def test_a_declined_renewal_is_past_due(
    client: stripe.StripeClient,
    simulator: Simulator,
    payer: stripe.Customer,
    price: stripe.Price,
) -> None:
    subscription = subscribe(client, payer, price)
    with_card(client, payer, "pm_card_chargeCustomerFail")
    simulator.advance(32 * DAY)
    assert client.v1.subscriptions.retrieve(subscription.id).status == "past_due"
    assert client.v1.subscriptions.list({"status": "past_due"}).data


def test_a_trial_costs_nothing_until_it_ends(
    client: stripe.StripeClient,
    simulator: Simulator,
    payer: stripe.Customer,
    price: stripe.Price,
) -> None:
    subscription = client.v1.subscriptions.create(
        {"customer": payer.id, "items": [{"price": price.id}], "trial_period_days": 14}
    )
    assert (subscription.status, subscription.latest_invoice) == ("trialing", None)
    simulator.advance(15 * DAY)
    after = client.v1.subscriptions.retrieve(subscription.id)
    assert after.status == "active"
    assert after.latest_invoice is not None


def test_a_subscription_is_changed_and_ends(
    client: stripe.StripeClient,
    simulator: Simulator,
    payer: stripe.Customer,
    price: stripe.Price,
) -> None:
    subscription = subscribe(client, payer, price)
    item = subscription["items"].data[0].id
    changed = client.v1.subscriptions.update(
        subscription.id,
        {
            "items": [{"id": item, "quantity": 3}],
            "metadata": {"plan": "pro"},
            "cancel_at_period_end": True,
        },
    )
    assert changed["items"].data[0].quantity == 3
    assert changed.cancel_at is not None
    simulator.advance(32 * DAY)
    assert client.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    assert kinds(simulator)[-1] == "customer.subscription.deleted"
    assert len(client.v1.invoices.list({"subscription": subscription.id}).data) == 1
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.subscriptions.cancel(subscription.id)
    assert client.v1.subscriptions.list().data == []
    other = subscribe(client, payer, price)
    assert client.v1.subscriptions.cancel(other.id, {"prorate": False}).status == "canceled"
    assert len(client.v1.subscriptions.list({"status": "all"}).data) == 2


def test_deleting_a_customer_ends_its_subscriptions(
    client: stripe.StripeClient, payer: stripe.Customer, price: stripe.Price
) -> None:
    subscription = subscribe(client, payer, price)
    client.v1.customers.delete(payer.id)
    assert client.v1.subscriptions.retrieve(subscription.id).status == "canceled"


def test_products_and_prices(client: stripe.StripeClient, price: stripe.Price) -> None:
    product = client.v1.products.create({"name": "Calls", "metadata": {"meter": "calls"}})
    assert client.v1.products.update(product.id, {"active": False}).active is False
    assert [p.id for p in client.v1.products.list({"active": False}).data] == [product.id]
    assert client.v1.products.retrieve(product.id).name == "Calls"
    assert [p.id for p in client.v1.prices.list({"lookup_keys": ["pro"]}).data] == [price.id]
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.prices.create(
            {"currency": "usd", "unit_amount": 1, "product": product.id, "lookup_key": "pro"}
        )
    moved = client.v1.prices.create(
        {
            "currency": "usd",
            "unit_amount_decimal": "0.015",  # type: ignore[typeddict-item]
            "product": product.id,
            "lookup_key": "pro",
            "transfer_lookup_key": True,
        }
    )
    assert moved.unit_amount is None
    assert str(moved.unit_amount_decimal) == "0.015"
    assert client.v1.prices.retrieve(price.id).lookup_key is None
    assert client.v1.prices.update(moved.id, {"nickname": "per call"}).nickname == "per call"
    assert client.v1.prices.list({"product": product.id, "type": "one_time"}).data
    with pytest.raises(stripe.InvalidRequestError, match="cannot be deleted"):
        client.v1.products.delete(product.id)
    lone = client.v1.products.create({"name": "Lone", "id": "prod_lone"})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.products.create({"name": "Twin", "id": "prod_lone"})
    assert refused.value.code == "resource_already_exists"
    assert client.v1.products.delete(lone.id).deleted
