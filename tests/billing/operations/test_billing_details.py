"""billing.operations.billing_details: who invoices are made out to."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction

from accounts.models import AuditEntry
from accounts.operations.versions import CustomerUnknown
from billing.models import BillingDetails, Invoice
from billing.operations.billing_details import BillingDetailsInvalid, set_billing_details
from billing.operations.erasing import erase_customer
from billing.operations.subscribing import cancel
from billing.queries.parties import billing_details
from tests.factories.accounts import a_customer
from tests.factories.billing import ACTOR, NOW, a_plan, a_subscription, bill, fresh

pytestmark = pytest.mark.django_db
HERE = {"legal_name": "Ada Öl GmbH", "line1": "Gasse 1", "city": "Wien", "country": "AT"}


def audits() -> int:
    return AuditEntry.objects.filter(action="billing_details.changed").count()


def test_what_is_given_is_set_and_the_rest_stays() -> None:
    customer = a_customer()
    set_billing_details(customer.id, details=HERE, actor=ACTOR, now=NOW)
    after = set_billing_details(
        customer.id, details={"city": "  Bad   Ischl "}, actor=ACTOR, now=NOW
    )
    assert after == billing_details(customer.id)
    assert (after["city"], after["country"], after["line2"]) == ("Bad Ischl", "AT", "")
    entry = AuditEntry.objects.filter(action="billing_details.changed").latest("id")
    assert entry.changes == {"fields": ["city"]}


def test_the_same_again_changes_nothing() -> None:
    customer = a_customer()
    for _ in range(2):
        set_billing_details(customer.id, details=HERE, actor=ACTOR, now=NOW)
    assert audits() == 1


@pytest.mark.parametrize(
    ("details", "param"),
    [
        ({"country": "at"}, "country"),
        ({"country": "AUT"}, "country"),
        ({"country": "UK"}, "country"),
        ({"country": "XX"}, "country"),
        ({"line1": "x" * 201}, "line1"),
        ({"planet": "Mars"}, "planet"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_kept(details: dict[str, str], param: str) -> None:
    customer = a_customer()
    with pytest.raises(BillingDetailsInvalid) as refused:
        set_billing_details(customer.id, details=HERE | details, actor=ACTOR, now=NOW)
    assert refused.value.param == param
    assert (BillingDetails.objects.count(), audits()) == (0, 0)


def test_a_customer_that_is_not_there_has_none() -> None:
    with pytest.raises(CustomerUnknown):
        set_billing_details(1, details=HERE, actor=ACTOR, now=NOW)


def test_an_issued_invoice_keeps_the_parties_of_its_day(settings: object) -> None:
    settings.SELLER_NAME = "Meter & Sons Ltd"  # type: ignore[attr-defined]
    settings.SELLER_ADDRESS = "1 High Street | Leeds | "  # type: ignore[attr-defined]
    customer = a_customer(name="Ada", email="ada@example.com")
    set_billing_details(customer.id, details=HERE, actor=ACTOR, now=NOW)
    subscription = a_subscription(a_plan(), customer=customer)
    invoice = bill(subscription, now=subscription.current_end_at.replace(day=3))
    set_billing_details(customer.id, details={"city": "Graz"}, actor=ACTOR, now=NOW)
    kept = fresh(invoice)
    assert kept.seller == {"name": "Meter & Sons Ltd", "address": ["1 High Street", "Leeds"]}
    assert kept.buyer == {
        "name": "Ada Öl GmbH",
        "address": ["Gasse 1", "Wien", "AT"],
        "email": "ada@example.com",
    }


@pytest.mark.parametrize("column", ["seller", "buyer"])
def test_the_database_refuses_other_parties_on_an_issued_invoice(column: str) -> None:
    subscription = a_subscription(a_plan())
    invoice = bill(subscription, now=subscription.current_end_at.replace(day=3))
    with pytest.raises(IntegrityError, match="it cannot change"), transaction.atomic():
        Invoice.objects.filter(pk=invoice.pk).update(**{column: {"name": "Mallory"}})
    assert getattr(fresh(invoice), column) == getattr(invoice, column)


def test_erasing_takes_the_buyer_out_of_invoices_and_leaves_their_numbers() -> None:
    customer = a_customer(name="Ada")
    set_billing_details(customer.id, details=HERE, actor=ACTOR, now=NOW)
    subscription = a_subscription(a_plan(fee=0), customer=customer)
    invoice = bill(subscription, now=subscription.current_end_at.replace(day=3))
    later = invoice.period_end_at.replace(day=4)
    cancel(subscription.id, when="now", actor=ACTOR, now=later)
    bill(subscription, now=later.replace(day=8))
    erase_customer(customer.id, reason="asked", actor=ACTOR, now=later.replace(day=9))
    kept = fresh(invoice)
    assert (kept.buyer, kept.number, kept.total) == ({}, invoice.number, invoice.total)
    assert not BillingDetails.objects.exists()
