"""Billing details over HTTP and in the portal."""

from __future__ import annotations

from django.test import Client

from accounts.models import Customer, Member
from billing.models import BillingDetails
from tests.billing.pages.conftest import signed_in
from tests.factories.accounts import Api, a_customer, a_member, an_api_key, an_operator_key


def test_operators_set_and_see_them(db: None) -> None:
    customer = a_customer()
    path = f"customers/{customer.public_id}/billing-details"
    api = Api(an_operator_key("customers:read", "customers:write")[1])
    assert api.get(path).json()["city"] == ""
    answer = api.call("PATCH", path, {"city": "Graz", "country": "AT"})
    assert answer.json()["city"] == "Graz"
    refused = api.call("PATCH", path, {"country": "Austria"})
    assert (refused.status_code, refused.json()["param"]) == (422, "country")
    assert api.get(path).json()["country"] == "AT"


def test_customers_set_their_own(db: None) -> None:
    key, made = an_api_key()
    api = Api(made)
    assert api.call("PATCH", "me/billing-details", {"tax_id": "ATU1"}).status_code == 200
    assert api.call("GET", "me/billing-details").json()["tax_id"] == "ATU1"
    assert BillingDetails.objects.get().customer_id == key.customer_id


def test_the_portal_has_a_form_for_them(db: None) -> None:
    member: Member = a_member(a_customer())
    browser: Client = signed_in(member)
    page = "/portal/billing-details"
    assert 'autocomplete="organization"' in browser.get(page).content.decode()
    saved = browser.post(page, {"legal_name": "Ada GmbH", "country": " at "}, follow=True)
    assert "Invoices from now on" in saved.content.decode()
    kept = BillingDetails.objects.get()
    assert (kept.legal_name, kept.country) == ("Ada GmbH", "AT")
    refused = browser.post(page, {"country": "Austria"})
    assert refused.status_code == 422
    assert 'id="country-refused"' in refused.content.decode()
    assert BillingDetails.objects.get(customer=Customer.objects.get()).legal_name == "Ada GmbH"
