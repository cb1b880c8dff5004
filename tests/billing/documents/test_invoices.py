"""Invoices as documents: what stands in them, that they are the same every time, who gets them."""

from __future__ import annotations

import base64
import re
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from accounts.models import Customer
from billing.documents.facts import invoice_document
from billing.documents.html import invoice_html
from billing.documents.pdf import invoice_pdf
from billing.models import Invoice
from billing.operations import collecting, crediting
from billing.operations.billing_details import set_billing_details
from billing.operations.closing import close_due
from tests.billing.pages.conftest import signed_in
from tests.factories.accounts import Api, a_customer, a_member, an_operator_key
from tests.factories.billing import ACTOR, NOW, START, a_plan, a_subscription, bill, calls, fresh
from tests.factories.metering import make_meter, report

pytestmark = pytest.mark.django_db
TIERS = {
    "model": "graduated",
    "tiers": [{"up_to": 100, "unit_price": "0.01"}, {"up_to": None, "unit_price": "0.005"}],
}
END = datetime(2026, 11, 3, tzinfo=UTC)


@pytest.fixture
def seller(settings: Any) -> None:
    settings.SELLER_NAME = "Meter & Sons Ltd"
    settings.SELLER_ADDRESS = "1 High Street | Leeds | GB"
    settings.SELLER_TAX_ID = "GB123456789"
    settings.SELLER_EMAIL = "billing@meter.example"
    settings.INVOICE_FOOTER = "Registered in Leeds <no. 7>"


def an_invoice(customer: Customer | None = None, **price: Any) -> Invoice:
    """October of a $20 plan with 1,250 of 1,000 calls used: $20 + 100 x 1 c + 150 x 0.5 c."""
    meter = make_meter()
    subscription = a_subscription(
        a_plan(calls(meter, **(price or {"price": TIERS}))), customer=customer
    )
    report(subscription.customer, meter, 1_250, at=START + timedelta(days=1))
    return bill(subscription, now=END)


def words(pdf: bytes) -> int:
    """How many text-showing operators the pages have."""
    streams = re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL)
    found = 0
    for stream in streams:
        try:
            data = zlib.decompress(base64.a85decode(stream.strip().removesuffix(b"~>")))
        except (ValueError, zlib.error):
            continue
        found += data.count(b" Tj")
    return found


def test_a_document_names_both_parties_and_explains_every_line(seller: None) -> None:
    customer = a_customer(name="Ada", email="ada@example.com")
    details = {
        "legal_name": "Ада Ωμέγα GmbH",
        "line1": "Gasse 1",
        "country": "AT",
        "tax_id": "ATU1",
    }
    set_billing_details(customer.id, details=details, actor=ACTOR, now=NOW)
    invoice = an_invoice(customer)
    found = invoice_document(invoice)
    assert found.title == f"Invoice {invoice.number}"
    assert found.seller.tax_id == "GB123456789"
    assert found.buyer.name == "Ада Ωμέγα GmbH"
    _, usage = found.lines
    assert usage.about == "1,250 used, 1,000 included, 1 October 2026 to 1 November 2026"
    assert (usage.exact, usage.amount) == ("$1.75", "$1.75")
    assert [(tier.units, tier.quantity, tier.price, tier.amount) for tier in usage.tiers] == [
        ("1 to 100", "100", "$0.01", "$1.00"),
        ("101 to 250", "150", "$0.005", "$0.75"),
    ]
    assert [(each.name, each.value) for each in found.totals] == [
        ("Total", "$21.75"), ("To pay", "$21.75"),
    ]  # fmt: skip
    page = invoice_html(found)
    for text in ("Meter &amp; Sons Ltd", "Ада Ωμέγα GmbH", "Tax id ATU1", "$21.75", "101 to 250",
                 "Registered in Leeds &lt;no. 7&gt;"):  # fmt: skip
        assert text in page
    assert "<script" not in page
    assert "style=" not in page


def test_payments_credit_and_what_was_carried_are_told() -> None:
    invoice = an_invoice()
    collecting.mark_pushed(invoice.id, stripe_invoice="in_1", now=END)
    collecting.mark_payment_failed(
        invoice.id,
        attempt=1,
        code="card_declined",
        next_attempt_at=END + timedelta(days=3),
        now=END,
    )
    facts = {each.name: each.value for each in invoice_document(fresh(invoice)).facts}
    assert facts["Last attempt"] == "card_declined; the next is on 6 November 2026"
    collecting.mark_paid(invoice.id, amount_paid=2_175, reference="pi_1", attempt=2, now=END)
    crediting.credit_note(invoice.id, amount=100, reason="sorry", actor=ACTOR, now=END)
    found = invoice_document(fresh(invoice))
    facts = {each.name: each.value for each in found.facts}
    assert (facts["Status"], facts["Paid"]) == ("Paid", "3 November 2026")
    assert [each.value for each in found.credit_notes] == ["$1.00: sorry"]
    assert [each.value for each in found.payments] == ["Paid", "Declined (card_declined)"]
    assert ("Paid", "$21.75") in [(each.name, each.value) for each in found.totals]
    assert b"%PDF" in invoice_pdf(found)


def test_a_small_invoice_says_that_it_is_carried_and_where_to() -> None:
    subscription = a_subscription(a_plan(fee=20))
    first = bill(subscription, now=END)
    assert invoice_document(first).facts[0].value == "Carried forward"
    second = bill(subscription, now=END + timedelta(days=30))
    bill(subscription, now=END + timedelta(days=61))
    facts = {each.name: each.value for each in invoice_document(fresh(first)).facts}
    assert facts["Carried to"] == second.number


def test_packages_bounds_and_shares_are_worded() -> None:
    package = {"model": "package", "package_size": 100, "package_price": "0.50"}
    (tier,) = invoice_document(an_invoice(price=package)).lines[1].tiers
    assert (tier.quantity, tier.price, tier.amount) == ("250 in 3 packages", "$0.50", "$1.50")
    bounded = {"model": "percentage", "percent": "1", "unit_value": "0.01", "fixed": "0.01",
               "minimum": "1"}  # fmt: skip
    tiers = invoice_document(an_invoice(price=bounded)).lines[1].tiers
    assert [(each.units, each.price, each.amount) for each in tiers] == [
        ("1 to 250", "$0.0001 + $0.01", "$0.035"), ("to the minimum", "", "$0.965"),
    ]  # fmt: skip


def test_a_draft_says_what_it_is() -> None:
    subscription = a_subscription(a_plan())
    close_due(now=END, limit=10)
    found = invoice_document(Invoice.objects.get(subscription=subscription))
    assert found.title == "Draft of an invoice"
    assert found.buyer.name == subscription.customer.name


def test_the_pdf_of_an_issued_invoice_has_the_same_bytes_every_time(seller: None) -> None:
    invoice = an_invoice()
    first, again = (invoice_pdf(invoice_document(fresh(invoice))) for _ in range(2))
    assert first == again
    assert first.startswith(b"%PDF-")
    assert words(first) > 30


def test_names_in_any_script_are_drawn(settings: Any, tmp_path: Path) -> None:
    customer = a_customer(name="株式会社 ひらがな 한국 Łódź Ελλάδα Привет 𐌰 <b>&")
    pdf = invoice_pdf(invoice_document(an_invoice(customer)))
    for font in (b"STSong-Light", b"HeiseiKakuGo-W5", b"HYGothic-Medium", b"DejaVuSans"):
        assert font in pdf


def test_many_lines_run_over_several_pages() -> None:
    invoice = an_invoice()
    found = invoice_document(invoice)
    long = type(found)(**{name: getattr(found, name) for name in found.__slots__}
                       | {"lines": found.lines * 40})  # fmt: skip
    assert invoice_pdf(long).count(b"/Type /Page\n") > 2


def test_an_operator_downloads_both_and_nobody_else_is_told_of_it() -> None:
    invoice = an_invoice()
    api = Api(an_operator_key("invoices:read")[1])
    pdf = api.call("GET", f"invoices/{invoice.public_id}/pdf")
    assert (pdf.status_code, pdf["Content-Type"]) == (200, "application/pdf")
    assert pdf["Content-Disposition"] == f'attachment; filename="{invoice.number}.pdf"'
    assert pdf.content == invoice_pdf(invoice_document(invoice))
    page = api.call("GET", f"invoices/{invoice.public_id}/page")
    assert page["Content-Type"].startswith("text/html")
    assert str(invoice.number) in page.content.decode()
    assert api.call("GET", "invoices/inv_000000000009/pdf").status_code == 404


@pytest.mark.parametrize("kind", ["pdf", "page"])
def test_customers_get_their_own_and_operators_any(kind: str) -> None:
    customer = a_customer()
    invoice = an_invoice(customer)
    address = f"/portal/invoices/{invoice.public_id}/{kind}"
    assert Client().get(address).status_code == 302
    own = signed_in(a_member(customer)).get(address)
    assert own.status_code == 200
    assert "no-store" in own["Cache-Control"]
    assert signed_in(a_member(a_customer())).get(address).status_code == 404
    Invoice.objects.create(
        customer=customer, currency="usd", period_start_at=START, period_end_at=NOW,
        created_at=NOW,
    )  # fmt: skip
    draft = Invoice.objects.get(status="draft", subscription=None)
    portal = signed_in(a_member(customer))
    assert portal.get(f"/portal/invoices/{draft.public_id}/{kind}").status_code == 404
    clerk = a_member(None, is_staff=True)
    clerk.is_superuser = False
    clerk.save()
    at_admin = f"/admin/invoices/{draft.public_id}/{kind}"
    assert signed_in(clerk).get(at_admin).status_code == 403
    chief = signed_in(a_member(None, is_staff=True))
    assert chief.get(at_admin).status_code == 200
    listed = chief.get("/admin/billing/invoice/").content.decode()
    assert f"/admin/invoices/{invoice.public_id}/pdf" in listed
