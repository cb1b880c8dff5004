"""The failure matrix of charging, row by row: what may go wrong with Stripe, and who tests it.

`ROWS` maps each row to the tests that play it on the simulator; the rows that are played nowhere
else have theirs below. A row whose test is renamed or gone fails here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
import stripe
from pytest_django import Settings

from accounts.models import Customer
from billing.models import StripeCustomer, StripeEvent, StripeStep
from billing.payments import client, inbox
from billing.payments.pushing import push_due
from billing.payments.simulator import Simulator
from tests.billing.payments.asserting import (
    assert_one_right_invoice,
    push_until_settled,
    stripe_invoice_of,
)
from tests.factories.accounts import a_customer
from tests.factories.payments import a_pending_invoice, give_card

pytestmark = pytest.mark.django_db
Deliver = Callable[[], int]

# What fails -> the tests of it, as module:test beside this one; ":test" is in this file.
ROWS: dict[str, tuple[str, ...]] = {
    "sent, answer lost": (
        "test_pushing:test_a_call_that_fails_is_repeated_with_its_key",
        "test_paying:test_a_lost_answer_is_asked_for_again",
    ),
    "dies before the call, or after the step is committed": (
        "test_crashes:test_a_worker_may_die_at_any_call",
        "test_crashes:test_workers_may_die_again_and_again",
        "test_killed_between_statements:test_workers_killed_at_every_boundary_charge_200_once",
    ),
    "dies while Stripe works": ("test_crashes:test_a_worker_is_killed_while_it_waits_for_stripe",),
    "slow: the answer comes after our patience": (":test_an_answer_that_comes_too_late",),
    "webhook before the answer": (
        "test_collecting:test_an_answer_that_comes_after_its_webhook_changes_nothing",
        "test_checkout:test_a_visit_completed_before_we_knew_its_page",
        "test_paying:test_a_customer_whose_answer_was_lost_is_known_from_its_events",
    ),
    "events out of order": (
        "test_collecting:test_events_may_come_twice_and_in_any_order",
        "test_money_back:test_refunds_are_posted_once_each",
        "test_money_back:test_a_dispute_is_followed_to_its_end",
    ),
    "event delivered twice, or to two at once": (
        "test_inbox:test_an_event_is_kept_once",
        "test_inbox:test_an_event_that_comes_several_times_at_once_is_kept_once",
        ":test_an_event_under_another_id_changes_nothing_more",
    ),
    "event never delivered": (
        "test_inbox:test_a_poll_keeps_what_no_webhook_brought",
        "test_collecting:test_a_sweep_finds_what_no_message_told",
        "test_reconciling:test_what_we_lack_is_found",
    ),
    "key forgotten after a day": (
        "test_pushing:test_a_key_that_may_be_forgotten_is_not_used_again",
        "test_pushing:test_a_customer_that_was_made_is_found_again",
        "test_paying:test_a_forgotten_key_charges_nobody_twice",
    ),
    "same key, other parameters": (":test_other_bytes_under_a_known_key_are_quarantined",),
    "409: a twin has the key": (
        "test_pushing:test_a_call_that_fails_is_repeated_with_its_key",
        "test_crashes:test_many_workers_make_one_invoice_each",
    ),
    "429: too many calls": (
        "test_pushing:test_a_call_that_fails_is_repeated_with_its_key",
        "test_client:test_a_bucket_gives_its_rate_and_no_more",
    ),
    "500 stored under the key": ("test_pushing:test_a_500_that_stripe_repeats_is_looked_into",),
    "invoice made in part": ("test_pushing:test_only_the_lines_that_are_missing_are_added_again",),
    "draft deleted by hand": (":test_a_draft_that_somebody_deleted_is_made_again",),
    "wrong total": (
        "test_pushing:test_an_invoice_that_differs_is_never_finalized",
        "test_pushing:test_a_released_invoice_that_still_differs_is_quarantined_again",
        "test_pushing:test_a_foreign_line_is_a_difference",
        "test_collecting:test_an_invoice_whose_total_differs_is_quarantined",
    ),
    "card declined": (
        "test_collecting:test_a_decline_is_known_and_mended_by_a_new_card",
        "test_collecting:test_a_new_card_that_fails_too_is_tried_once",
    ),
    "3-D Secure needed while the customer is away": (
        "test_collecting:test_a_payment_that_must_be_confirmed_waits_for_the_customer",
    ),
    "no payment method, or detached": (
        ":test_an_invoice_without_a_card_is_collected_on_the_first_one",
        "test_collecting:test_a_card_taken_away_is_not_charged_on",
        "test_paying:test_a_method_that_is_refused_is_not_asked_again",
    ),
    "refund, dispute, fraud warning": (
        "test_money_back:test_refunds_are_posted_once_each",
        "test_money_back:test_a_dispute_is_followed_to_its_end",
        "test_money_back:test_a_fraud_warning_stops_collection_until_it_is_released",
    ),
    "customer deleted": (
        "test_money_back:test_open_invoices_of_a_deleted_customer_wait_for_an_operator",
        "test_pushing:test_an_invoice_of_a_deleted_customer_waits_for_an_operator",
        "test_collecting:test_a_customer_deleted_at_stripe_cannot_be_charged",
    ),
    "price archived": (":test_no_price_of_stripe_is_needed",),
    "another currency": (":test_an_invoice_says_its_currency",),
    "zero, negative or too small": ("test_pushing:test_what_stripe_would_not_collect_is_not_sent",),
    "clocks apart": (
        "test_inbox:test_old_and_future_signatures_are_refused",
        "test_checking:test_each_fault_is_named",
    ),
    "key revoked": (
        "test_pushing:test_a_refused_key_stops_everything_and_fails_nothing",
        "test_inbox:test_a_refused_key_fails_no_event",
        "test_client:test_the_breaker_closes_after_a_minute",
        ":test_a_key_that_is_revoked_in_the_middle_marks_nothing_failed",
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_played(row: str) -> None:
    for name in ROWS[row]:
        module, _, test = name.partition(":")
        module = module or "test_failure_matrix"
        found = importlib.import_module(f"tests.billing.payments.{module}")
        assert callable(getattr(found, test, None)), name


def test_an_answer_that_comes_too_late(
    simulator: Simulator, customer: Customer, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "transport", lambda: stripe.RequestsClient(timeout=0.5))
    client.forget()
    invoice = a_pending_invoice(customer, now=now)
    simulator.fault("slow", method="POST", path="/v1/invoices", seconds=1.0)
    push_due(now=now, limit=1)
    push_until_settled(invoice, now=now + timedelta(minutes=1))
    assert_one_right_invoice(simulator, invoice)
    assert {step.attempt for step in StripeStep.objects.all()} == {1}


def test_an_event_under_another_id_changes_nothing_more(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    give_card(customer, now=now)
    invoice = a_pending_invoice(customer, now=now)
    push_due(now=now, limit=1)
    deliver()
    paid = StripeEvent.objects.get(type="invoice.paid")
    paid.id, paid.processed_at, paid.next_attempt_at = "evt_twin1", None, now
    paid.save(force_insert=True)
    assert inbox.process_pending(now=now, limit=10) == 1
    invoice.refresh_from_db()
    assert (invoice.status, invoice.amount_paid) == ("paid", invoice.total)
    assert invoice.postings.filter(kind="payment_received").count() == 1


def test_other_bytes_under_a_known_key_are_quarantined(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    """It cannot happen, for an issued invoice does not change; a hand in the database could."""
    invoice = a_pending_invoice(customer, now=now)
    simulator.fault("drop_after", method="POST", path="/v1/invoices", times=3)
    push_due(now=now, limit=1)
    step = StripeStep.objects.get(kind="create")
    step.request["params"]["description"] = "another one"
    step.save()
    push_until_settled(invoice, now=now + timedelta(minutes=1))
    assert (invoice.push, invoice.status) == ("quarantined", "open")
    assert len(simulator.all("invoice")) == 1
    assert stripe_invoice_of(simulator, invoice)["status"] == "draft"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/invoices/*"), ("POST", "*/add_lines"), ("POST", "*/finalize")]
)
def test_a_draft_that_somebody_deleted_is_made_again(
    simulator: Simulator, customer: Customer, now: datetime, method: str, path: str
) -> None:
    invoice = a_pending_invoice(customer, now=now)
    simulator.fault("drop_before", method=method, path=path, times=3)
    push_due(now=now, limit=1)
    client.delete(f"/v1/invoices/{stripe_invoice_of(simulator, invoice)['id']}")
    push_until_settled(invoice, now=now + timedelta(minutes=10))
    assert_one_right_invoice(simulator, invoice)


def test_an_invoice_without_a_card_is_collected_on_the_first_one(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    invoice = a_pending_invoice(customer, now=now)
    push_due(now=now, limit=1)
    deliver()
    invoice.refresh_from_db()
    assert (invoice.status, invoice.failure_code) == ("open", "payment_failed")
    assert StripeCustomer.objects.get().payment_method == ""
    give_card(customer, now=now)
    deliver()
    invoice.refresh_from_db()
    assert invoice.status == "paid"
    assert sum(charge["paid"] for charge in simulator.all("charge")) == 1


def test_no_price_of_stripe_is_needed(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    """Lines are amounts: whatever happens to prices and products there, ours are charged."""
    push_due(now=now, limit=1)
    invoice = a_pending_invoice(customer, now=now)
    push_due(now=now, limit=1)
    assert_one_right_invoice(simulator, invoice)
    sent = [step.request["params"] for step in StripeStep.objects.filter(kind="add_lines")]
    assert all(set(line) == _OF_A_LINE for params in sent for line in params["lines"])
    assert simulator.all("price") == simulator.all("product") == []


_OF_A_LINE = {"amount", "description", "metadata", "period"}


def test_an_invoice_says_its_currency(simulator: Simulator, now: datetime) -> None:
    """Where the customer's counterpart has paid in another one before."""
    customer = a_customer(currency="eur")
    row = give_card(customer, now=now)
    assert row
    stripe_customer = StripeCustomer.objects.get().stripe_customer
    other = {"customer": stripe_customer, "currency": "usd"}
    assert client.post("/v1/invoices", params=other, key="by-hand").status == 200
    invoice = a_pending_invoice(customer, now=now)
    push_due(now=now, limit=1)
    assert_one_right_invoice(simulator, invoice)
    assert stripe_invoice_of(simulator, invoice)["currency"] == "eur"


@pytest.mark.parametrize("calls_made", [1, 2, 3, 5])
def test_a_key_that_is_revoked_in_the_middle_marks_nothing_failed(
    simulator: Simulator,
    customer: Customer,
    now: datetime,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    calls_made: int,
) -> None:
    invoice = a_pending_invoice(customer, now=now)
    made = client.transport

    class Revoked(type(made())):  # type: ignore[misc]
        left = calls_made

        def request(self, method: str, url: str, headers: dict[str, str], *rest: object) -> object:
            Revoked.left -= 1
            if Revoked.left < 0:
                headers = {**headers, "Authorization": "Bearer sk_test_revoked1"}
                settings.STRIPE_API_KEY = "sk_test_revoked1"
            return super().request(method, url, headers, *rest)

    monkeypatch.setattr(client, "transport", lambda: Revoked(timeout=5))
    client.forget()
    assert push_due(now=now, limit=10) == 1
    invoice.refresh_from_db()
    assert (invoice.push, invoice.status) == ("pending", "open")
    assert set(StripeStep.objects.values_list("state", flat=True)) <= {"done", "pending"}

    monkeypatch.setattr(client, "transport", made)
    settings.STRIPE_API_KEY = ""
    client.forget()
    push_until_settled(invoice, now=now + timedelta(minutes=2))
    assert_one_right_invoice(simulator, invoice)
    assert StripeStep.objects.exclude(attempt=1).count() == 0
