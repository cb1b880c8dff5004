"""Stripe Tax passed on: Stripe computes it, we take it as given, book it and show it."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from pytest_django import Settings

from accounts.models import AuditEntry, Customer
from billing.documents.facts import invoice_document
from billing.domain.ledger import Account
from billing.models import BillingDetails, Invoice
from billing.operations import checking, collecting
from billing.operations.billing_details import BillingDetailsInvalid, set_billing_details
from billing.payments import client
from billing.payments.checking import checks
from billing.payments.pushing import push_due
from billing.payments.reconciling import compare
from billing.payments.simulator import Simulator
from billing.queries.explanations import explained
from billing.queries.reports import invoice_line_rows
from tests.billing.pages.conftest import signed_in
from tests.billing.payments.asserting import stripe_invoice_of
from tests.billing.payments.taxing import ACTIVE, DAY, DEFAULTS, balance, live_in, of_october
from tests.factories.accounts import Api, a_customer, a_member, an_api_key, operator
from tests.factories.billing import ACTOR, START, a_plan, a_subscription, bill, fresh
from tests.factories.payments import a_pending_invoice, give_card

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("taxed")]


CREATE, FINALIZE = "/v1/invoices", "/v1/invoices/*/finalize"


def test_tax_comes_on_top_is_booked_and_paid(
    simulator: Simulator, placed: Customer, now: datetime, deliver: Callable[[], int]
) -> None:
    invoice = of_october(placed, now)
    assert push_due(now=now, limit=5) == 1
    invoice.refresh_from_db()
    assert (invoice.total, invoice.tax_added, invoice.tax_included) == (2_000, 400, 0)
    assert (invoice.amount_due, invoice.tax_status) == (2_400, "complete")
    assert stripe_invoice_of(simulator, invoice)["total"] == 2_400
    assert balance(placed, Account.RECEIVABLE) == 2_400
    assert (balance(placed, Account.REVENUE), balance(placed, Account.TAX)) == (-2_000, -400)

    deliver()
    invoice.refresh_from_db()
    assert (invoice.status, invoice.amount_paid, invoice.push) == ("paid", 2_400, "pushed")
    assert balance(placed, Account.RECEIVABLE) == 0
    (charge,) = simulator.all("charge")
    assert charge["amount"] == 2_400
    assert checking.broken_invariants(now=now) == []
    assert compare(now - DAY, now + DAY, now=now + timedelta(minutes=1)).found == []


def test_tax_that_is_part_of_prices_leaves_the_total(
    simulator: Simulator, settings: Settings, placed: Customer, now: datetime
) -> None:
    settings.STRIPE_TAX_BEHAVIOR, settings.STRIPE_TAX_CODE = "inclusive", "txcd_10103001"
    invoice = of_october(placed, now)
    push_due(now=now, limit=5)
    invoice.refresh_from_db()
    assert (invoice.tax_added, invoice.tax_included) == (0, 333)  # 20.00 * 20 / 120
    assert (invoice.total_with_tax, invoice.tax) == (2_000, 333)
    assert balance(placed, Account.RECEIVABLE) == 2_000
    assert (balance(placed, Account.REVENUE), balance(placed, Account.TAX)) == (-1_667, -333)
    assert [each["tax_code"] for each in simulator.all("product")] == ["txcd_10103001"]
    assert [each["tax_behavior"] for each in simulator.all("price")] == ["inclusive"]


@pytest.mark.parametrize(("currency", "tax"), [("usd", (400, 0)), ("eur", (0, 300))])
def test_a_plan_says_how_it_is_taxed_in_each_currency(
    simulator: Simulator, now: datetime, currency: str, tax: tuple[int, int]
) -> None:
    plan = a_plan(
        tax_code="txcd_10103001", prices={"eur": {"fee": 1_800, "tax_behavior": "inclusive"}}
    )
    customer = a_customer(currency=currency)
    live_in(customer, now=now)
    give_card(customer, now=now)
    invoice = bill(a_subscription(plan, customer=customer, card=False), now=now)
    push_due(now=now, limit=5)
    invoice.refresh_from_db()
    assert (invoice.push, invoice.tax_added, invoice.tax_included) == ("pushed", *tax)
    assert [each["tax_code"] for each in simulator.all("product")] == ["txcd_10103001"]
    assert_one_right_line(simulator, invoice)


def assert_one_right_line(simulator: Simulator, invoice: Invoice) -> None:
    (line,) = simulator.all("line_item")
    assert (line["amount"], line["id"]) == (invoice.total, invoice.lines.get().stripe_line)


@pytest.mark.traced
@pytest.mark.parametrize(
    ("exempt", "reason", "words"),
    [
        ("exempt", "customer_exempt", "The customer is exempt"),
        ("reverse", "reverse_charge", "Reverse charge: the customer accounts for it"),
    ],
)
def test_who_is_not_taxed_is_told_to_stripe_and_on_the_invoice(
    simulator: Simulator, placed: Customer, now: datetime, exempt: str, reason: str, words: str
) -> None:
    set_billing_details(placed.id, details={}, tax_exempt=exempt, actor=ACTOR, now=now + DAY)
    invoice = of_october(placed, now)
    push_due(now=now, limit=5)
    invoice.refresh_from_db()
    assert (invoice.tax, [row["reason"] for row in invoice.taxes]) == (0, [reason])
    assert words in [pair.name for pair in invoice_document(invoice).totals]
    assert balance(placed, Account.TAX) == 0


def test_negative_lines_are_told_as_one(
    simulator: Simulator, placed: Customer, now: datetime
) -> None:
    invoice = a_pending_invoice(placed, amounts=(2_000, 345, -45), now=now)
    push_due(now=now, limit=5)
    invoice.refresh_from_db()
    assert (invoice.push, invoice.total_with_tax) == ("pushed", 2_760)
    (line,) = simulator.all("line_item")
    assert (line["amount"], line["metadata"]["farebox_line"]) == (2_300, invoice.public_id)


@pytest.mark.parametrize("path", [CREATE, FINALIZE])
@pytest.mark.parametrize("fault", ["drop_before", "drop_after", "500"])
def test_a_call_that_fails_books_the_tax_once(
    simulator: Simulator, placed: Customer, now: datetime, path: str, fault: str
) -> None:
    invoice = of_october(placed, now)
    simulator.fault(fault, method="POST", path=path, times=3)
    push_due(now=now, limit=5)
    assert fresh(invoice).taxed_at is None
    push_due(now=now + DAY, limit=5)
    push_due(now=now + 2 * DAY, limit=5)
    assert fresh(invoice).tax_added == 400
    assert balance(placed, Account.TAX) == -400


def test_a_webhook_that_outruns_our_answer_brings_the_tax(
    simulator: Simulator, placed: Customer, now: datetime, deliver: Callable[[], int]
) -> None:
    invoice = of_october(placed, now)
    simulator.fault("drop_after", method="POST", path=FINALIZE, times=3)
    push_due(now=now, limit=5)
    deliver()
    invoice.refresh_from_db()
    assert (invoice.status, invoice.amount_paid, invoice.tax_added) == ("paid", 2_400, 400)
    assert balance(placed, Account.TAX) == -400
    assert balance(placed, Account.RECEIVABLE) == 0


@pytest.mark.traced
class TestNoAddress:
    def test_it_waits_says_why_and_goes_on_once_the_address_is_there(
        self, simulator: Simulator, customer: Customer, now: datetime
    ) -> None:
        give_card(customer, now=now)
        invoice = of_october(customer, now)
        push_due(now=now, limit=5)
        invoice.refresh_from_db()
        assert (invoice.push, invoice.tax_status) == ("pending", "requires_location_inputs")
        assert "billing address is missing" in invoice.push_problem
        assert stripe_invoice_of(simulator, invoice)["status"] == "draft"
        assert balance(customer, Account.TAX) == 0
        assert push_due(now=now, limit=5) == 0  # it waits

        live_in(customer, now=now)
        assert push_due(now=now, limit=5) == 1
        invoice.refresh_from_db()
        assert (invoice.push, invoice.tax_status, invoice.tax_added) == ("pushed", "complete", 400)
        assert invoice.push_problem == ""
        assert stripe_invoice_of(simulator, invoice)["total"] == 2_400

    def test_a_day_later_it_is_asked_again_and_said_once(
        self, simulator: Simulator, customer: Customer, now: datetime
    ) -> None:
        give_card(customer, now=now)
        invoice = of_october(customer, now)
        push_due(now=now, limit=5)
        push_due(now=now + 2 * DAY, limit=5)
        assert fresh(invoice).push == "pending"
        assert AuditEntry.objects.filter(action="invoice.awaits_tax").count() == 1
        assert len(simulator.all("invoice")) == 1

    def test_the_customer_is_told_and_who_has_one_is_not(
        self, simulator: Simulator, customer: Customer, now: datetime
    ) -> None:
        give_card(customer, now=now)
        invoice = of_october(customer, now)
        browser: Client = signed_in(a_member(customer))
        words = "Your billing address is needed"
        assert words not in browser.get("/portal").content.decode()
        push_due(now=now, limit=5)
        assert words in browser.get("/portal").content.decode()
        told = operator("invoices:read").get(f"invoices/{invoice.public_id}").json()
        assert (told["tax_status"], told["push"]) == ("requires_location_inputs", "pending")
        live_in(customer, now=now)
        push_due(now=now, limit=5)
        assert words not in browser.get("/portal").content.decode()

    def test_one_that_is_lost_before_finalizing_is_waited_for_as_well(
        self, simulator: Simulator, placed: Customer, now: datetime
    ) -> None:
        invoice = of_october(placed, now)
        simulator.fault("drop_before", method="POST", path=FINALIZE, times=3)
        push_due(now=now, limit=5)
        (there,) = simulator.all("customer")
        path = f"/v1/customers/{there['id']}"
        client.post(path, params={"address": {"country": ""}}, key="moved-out")
        push_due(now=now + DAY / 2, limit=5)
        invoice.refresh_from_db()
        assert (invoice.push, invoice.tax_status) == ("pending", "requires_location_inputs")
        assert balance(placed, Account.TAX) == 0
        live_in(placed, now=now + DAY, city="Potsdam")
        push_due(now=now + DAY, limit=5)
        invoice.refresh_from_db()
        assert (invoice.push, invoice.tax_added) == ("pushed", 400)
        assert stripe_invoice_of(simulator, invoice)["total"] == 2_400

    def test_a_quarantined_one_stays_with_the_operator(
        self, customer: Customer, now: datetime
    ) -> None:
        invoice = a_pending_invoice(customer, now=now)
        collecting.quarantine(invoice.pk, problem="Look.", now=now)
        live_in(customer, now=now)
        assert push_due(now=now, limit=5) == 0
        assert fresh(invoice).push == "quarantined"


class TestShowing:
    def test_it_stands_wherever_the_invoice_stands(self, placed: Customer, now: datetime) -> None:
        invoice = of_october(placed, now)
        push_due(now=now, limit=5)
        invoice.refresh_from_db()
        totals = {pair.name: pair.value for pair in invoice_document(invoice).totals}
        assert totals == {
            "Total without tax": "$20.00",
            "Tax": "$4.00",
            "Total": "$24.00",
            "To pay": "$24.00",
        }
        api = operator("admin")
        told = api.get(f"invoices/{invoice.public_id}").json()
        assert (told["total"], told["tax"], told["total_with_tax"]) == (2_000, 400, 2_400)
        assert told["taxes"] == [
            {"amount": 400, "taxable": 2_000, "included": False, "reason": "standard_rated"}
        ]
        sums = api.get(f"invoices/{invoice.public_id}/explanation").json()
        assert (sums["holds"], sums["total_with_tax"]) == (True, 2_400)
        said = io.StringIO()
        call_command("explain", invoice.number, stdout=said)
        assert "Tax: $4.00 on $20.00, as Stripe computed it" in said.getvalue()
        assert "Total with tax: $24.00" in said.getvalue()
        page = signed_in(a_member(placed)).get("/portal").content.decode()
        assert "$24.00" in page
        assert explained(invoice).holds
        state = Api(an_api_key(placed)[1]).get("me/state").json()
        (open_one,) = state["open_invoices"]
        assert (open_one["total"]["amount"], open_one["tax"]["amount"]) == (2_400, 400)
        header, row = invoice_line_rows(start_at=START, end_at=now)
        assert dict(zip(header, row, strict=True))["invoice_total_with_tax"] == "2400"


@pytest.mark.traced
class TestTaxStatus:
    def test_an_operator_says_it_and_a_customer_cannot(self, customer: Customer) -> None:
        path = f"customers/{customer.public_id}/billing-details"
        said = operator("customers:write").call("PATCH", path, {"tax_exempt": "exempt"})
        assert (said.status_code, said.json()["tax_exempt"]) == (200, "exempt")
        own = Api(an_api_key(customer)[1])
        refused = own.call("PATCH", "me/billing-details", {"tax_exempt": "none"})
        assert refused.status_code == 422
        assert own.get("me/billing-details").json()["tax_exempt"] == "exempt"
        with pytest.raises(BillingDetailsInvalid):
            set_billing_details(customer.id, details={}, tax_exempt="maybe", actor=ACTOR, now=START)
        assert BillingDetails.objects.get().tax_exempt == "exempt"


@pytest.mark.parametrize(
    ("tax", "behavior", "level"),
    [
        (ACTIVE, "", "ok"),
        ({"status": "pending"}, "", "error"),
        ({"status": "active", "defaults": DEFAULTS}, "", "error"),
        ({"status": "active", "defaults": DEFAULTS}, "inclusive", "ok"),
    ],
)
def test_stripe_check_knows_whether_tax_can_be_computed(
    simulator: Simulator,
    settings: Settings,
    tax: dict[str, Any],
    behavior: str,
    level: str,
) -> None:
    simulator.set_up(tax=tax)
    settings.STRIPE_TAX_BEHAVIOR = behavior
    (found,) = (each for each in checks(now=datetime.now(UTC)) if each.code == "tax")
    assert found.level == level
    assert (found.remedy == "") == (level == "ok")
