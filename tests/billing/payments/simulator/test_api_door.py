"""Keys, unknown parameters, forms, lists and the other things every call shares."""

from __future__ import annotations

from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import stripe

from billing.payments.simulator import Simulator
from billing.payments.simulator.forms import decode
from tests.billing.payments.simulator.conftest import client_of, draft


@pytest.mark.parametrize("key", ["sk_test_invalid_1", "sk_test_revoked", "sk_live_1", "nonsense"])
def test_other_keys_are_refused(simulator: Simulator, key: str) -> None:
    http = stripe.RequestsClient(timeout=5)
    with pytest.raises(stripe.AuthenticationError) as refused:
        client_of(simulator, http, key=key).v1.customers.create({"name": "Ada"})
    assert refused.value.http_status == 401
    assert simulator.all("customer") == []
    http.close()  # type: ignore[no-untyped-call]


def test_a_missing_key_is_refused(simulator: Simulator) -> None:
    with pytest.raises(HTTPError) as refused:
        urlopen(f"{simulator.url}/v1/customers", timeout=5)
    assert refused.value.code == 401
    refused.value.close()


def test_restricted_and_basic_keys_are_accepted(simulator: Simulator) -> None:
    http = stripe.RequestsClient(timeout=5)
    assert client_of(simulator, http, key="rk_test_1").v1.customers.list().data == []
    http.close()  # type: ignore[no-untyped-call]
    request = Request(f"{simulator.url}/v1/customers")
    request.add_header("Authorization", "Basic c2tfdGVzdF8xOg==")
    with urlopen(request, timeout=5) as answer:
        assert answer.status == 200
        assert answer.headers["Request-Id"].startswith("req_")


def test_one_key_only_where_one_is_given() -> None:
    with Simulator(api_key="sk_test_only") as simulator:
        http = stripe.RequestsClient(timeout=5)
        assert client_of(simulator, http, key="sk_test_only").v1.customers.list().data == []
        with pytest.raises(stripe.AuthenticationError):
            client_of(simulator, http, key="sk_test_other").v1.customers.list()
        http.close()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"nmae": "Ada"}, "parameter_unknown", "nmae"),
        ({"invoice_settings": {"x": "1"}}, "parameter_unknown", "invoice_settings[x]"),
        ({"balance": "much"}, "parameter_invalid_integer", "balance"),
        ({"balance": "1.5"}, "parameter_invalid_integer", "balance"),
        ({"tax_exempt": "maybe"}, None, "tax_exempt"),
        ({"metadata": {"k": "v" * 501}}, None, "metadata[k]"),
    ],
)
def test_wrong_parameters_are_named(
    loose: stripe.StripeClient,
    simulator: Simulator,
    params: Any,
    code: str | None,
    param: str,
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        loose.v1.customers.create(params)
    assert refused.value.http_status == 400
    assert (refused.value.code, refused.value.param) == (code, param)
    assert simulator.all("customer") == []


def test_missing_and_empty_parameters_are_named(loose: stripe.StripeClient) -> None:
    for params, code in (({}, "parameter_missing"), ({"customer": ""}, "parameter_invalid_empty")):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            loose.v1.invoices.create(params)  # type: ignore[arg-type]
        assert (refused.value.code, refused.value.param) == (code, "customer")


def test_payment_method_types_are_gone(loose: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        loose.v1.setup_intents.create({"payment_method_types": ["card"]})  # type: ignore[arg-type]
    assert refused.value.code == "payment_method_types_no_longer_supported"


def test_what_is_not_there_is_missing(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.customers.retrieve("cus_none")
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.invoices.create({"customer": "cus_none"})
    assert (refused.value.http_status, refused.value.param) == (400, "customer")


def test_unknown_addresses_and_versions(loose: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="Unrecognized request URL"):
        loose.v1.coupons.list()
    with pytest.raises(stripe.InvalidRequestError, match="API version"):
        loose.v1.customers.list(None, {"stripe_version": "yesterday"})


def test_pages_go_both_ways(client: stripe.StripeClient) -> None:
    made = [client.v1.customers.create({"name": str(number)}).id for number in range(5)]
    newest = made[::-1]
    first = client.v1.customers.list({"limit": 2})
    assert [c.id for c in first.data] == newest[:2]
    assert first.has_more
    second = client.v1.customers.list({"limit": 2, "starting_after": newest[1]})
    assert [c.id for c in second.data] == newest[2:4]
    last = client.v1.customers.list({"limit": 2, "starting_after": newest[3]})
    assert ([c.id for c in last.data], last.has_more) == (newest[4:], False)
    back = client.v1.customers.list({"limit": 2, "ending_before": newest[3]})
    assert [c.id for c in back.data] == newest[1:3]
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.customers.list({"starting_after": "cus_none"})
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.customers.list({"limit": 101})


def test_ids_can_be_expanded(client: stripe.StripeClient, customer: stripe.Customer) -> None:
    invoice = draft(client, customer, 1000)
    read = client.v1.invoices.retrieve(invoice.id, {"expand": ["customer"]})
    assert isinstance(read.customer, stripe.Customer)
    listed = client.v1.invoices.list({"expand": ["data.customer"]})
    assert isinstance(listed.data[0].customer, stripe.Customer)
    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        client.v1.invoices.retrieve(invoice.id, {"expand": ["nonsense"]})


def test_customers_live_and_are_deleted(client: stripe.StripeClient, simulator: Simulator) -> None:
    customer = client.v1.customers.create(
        {"email": "a@example.com", "payment_method": "pm_card_visa", "metadata": {"a": "1"}}
    )
    changed = client.v1.customers.update(
        customer.id,
        {"metadata": {"a": "", "b": "2"}, "address": {"city": "Ghent"}, "email": ""},
    )
    assert changed.metadata is not None
    assert changed.metadata.to_dict() == {"b": "2"}
    assert changed.email is None
    (updated,) = simulator.events("customer.updated")
    assert updated["data"]["previous_attributes"]["email"] == "a@example.com"
    assert client.v1.customers.delete(customer.id).deleted
    gone = client.v1.customers.retrieve(customer.id)
    assert gone.to_dict() == {"id": customer.id, "object": "customer", "deleted": True}
    assert client.v1.customers.list().data == []
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.customers.update(customer.id, {"name": "Ada"})
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoices.create({"customer": customer.id})
    assert simulator.events("customer.deleted")


def test_the_account_is_there(client: stripe.StripeClient) -> None:
    assert client.v1.accounts.retrieve_current().charges_enabled


def test_forms_are_decoded() -> None:
    text = "a=1&lines[0][amount]=5&lines[0][period][end]=2&lines[1][amount]=&m[x y]=z&e[]=p&e[]=q"
    assert decode(text) == {
        "a": "1",
        "lines": {"0": {"amount": "5", "period": {"end": "2"}}, "1": {"amount": ""}},
        "m": {"x y": "z"},
        "e": {"0": "p", "1": "q"},
    }
    assert decode("a[=1&b]=2") == {"a[": "1", "b]": "2"}
    assert decode("a=1&a[b]=2") == {"a": {"b": "2"}}


def test_a_huge_body_is_refused(simulator: Simulator) -> None:
    request = Request(f"{simulator.url}/v1/customers", data=b"x" * 5_000_000)
    with pytest.raises((HTTPError, OSError)):
        urlopen(request, timeout=5)
    assert simulator.all("customer") == []
