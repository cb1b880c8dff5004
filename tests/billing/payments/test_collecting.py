"""What Stripe does about an invoice arrives here, and what is done here arrives at Stripe."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from accounts.models import AuditEntry, Customer
from billing.models import Invoice, PaymentAttempt, StripeCustomer, StripeEvent, StripeStep
from billing.operations import collecting
from billing.operations.checkout import begin_checkout
from billing.payments import checkout, client, inbox, mirroring, retracting
from billing.payments.pushing import push_due
from billing.payments.simulator import Simulator, enter_card
from tests.billing.payments.asserting import assert_one_right_invoice
from tests.factories.payments import a_pending_invoice, give_card

pytestmark = pytest.mark.django_db
Deliver = Callable[[], int]
DECLINED, THREE_DS = "pm_card_chargeCustomerFail", "pm_card_authenticationRequired"
NEVER_SAVED = "4000000000000341"


def a_pushed_invoice(customer: Customer, *, now: datetime) -> Invoice:
    invoice = a_pending_invoice(customer, now=now)
    assert push_due(now=now, limit=1) == 1
    invoice.refresh_from_db()
    assert invoice.push == Invoice.Push.PUSHED
    return invoice


def post(path: str, **params: object) -> None:
    answer = client.post(path, params=params, key=f"test-{path}")
    assert answer.status == 200, answer


def pays(simulator: Simulator, invoice: Invoice) -> list[dict[str, object]]:
    path = f"/v1/invoices/{invoice.stripe_invoice}/pay"
    return simulator.requests("POST", path)


def test_a_decline_is_known_and_mended_by_a_new_card(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    give_card(customer, test_card=DECLINED, now=now)
    invoice = a_pushed_invoice(customer, now=now)
    deliver()
    invoice.refresh_from_db()
    assert (invoice.status, invoice.amount_paid, invoice.attempt_count) == ("open", 0, 1)
    assert invoice.failure_code == "generic_decline"
    assert invoice.next_attempt_at is not None
    assert pays(simulator, invoice) == []  # the card that failed is left to Stripe's retries

    visit = begin_checkout(customer.pk, actor="mem_x", now=now)
    url = checkout.open_checkout(
        visit, success_url="https://x.test/ok", cancel_url="https://x.test/no", now=now
    )
    assert enter_card(url, "5555555555554444") == "https://x.test/ok"
    deliver()

    invoice.refresh_from_db()
    assert (invoice.status, invoice.amount_paid) == ("paid", invoice.total)
    assert len(pays(simulator, invoice)) == 1
    row = StripeCustomer.objects.get(customer=customer)
    assert (row.card_brand, row.card_last4) == ("mastercard", "4444")
    visit.refresh_from_db()
    assert visit.status == "complete"
    outcomes = PaymentAttempt.objects.filter(invoice=invoice).order_by("number")
    assert [(each.number, each.outcome) for each in outcomes] == [(1, "declined"), (2, "paid")]


def test_a_new_card_that_fails_too_is_tried_once(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    give_card(customer, test_card=DECLINED, now=now)
    invoice = a_pushed_invoice(customer, now=now)
    deliver()
    for _ in range(2):
        url = checkout.open_portal(customer, return_url="https://x.test", now=now)
        enter_card(url, NEVER_SAVED)
        deliver()
        deliver()
    invoice.refresh_from_db()
    assert invoice.status == Invoice.Status.OPEN
    assert [s.state for s in StripeStep.objects.filter(kind="pay")] == ["declined", "declined"]
    assert len(pays(simulator, invoice)) == 2
    assert invoice.attempt_count == 3


def test_a_payment_that_must_be_confirmed_waits_for_the_customer(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    give_card(customer, test_card=THREE_DS, now=now)
    invoice = a_pushed_invoice(customer, now=now)
    deliver()
    invoice.refresh_from_db()
    (attempt,) = PaymentAttempt.objects.filter(invoice=invoice)
    assert attempt.outcome == PaymentAttempt.Outcome.ACTION_REQUIRED
    assert pays(simulator, invoice) == []

    enter_card(invoice.hosted_url, "4000002500003155", authenticate=True)
    deliver()
    invoice.refresh_from_db()
    assert invoice.status == Invoice.Status.PAID


def test_an_answer_that_comes_after_its_webhook_changes_nothing(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    give_card(customer, now=now)
    invoice = a_pending_invoice(customer, now=now)
    simulator.fault("drop_after", method="POST", path="/v1/invoices/*/finalize", times=3)
    push_due(now=now, limit=1)
    invoice.refresh_from_db()
    assert (invoice.push, invoice.stripe_invoice) == ("pending", None)

    deliver()
    assert_one_right_invoice(simulator, invoice)
    assert invoice.status == Invoice.Status.PAID
    assert push_due(now=now + timedelta(hours=1), limit=10) == 0


def test_events_may_come_twice_and_in_any_order(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    give_card(customer, now=now)
    invoice = a_pushed_invoice(customer, now=now)
    events = simulator.events()
    for event in [*reversed(events), *events]:
        body, signature = simulator.signed(event["id"])
        kept = inbox.store(body, signature=signature, now=now)
        inbox.process_pending(now=now, limit=1)
        assert kept is None or kept.pk == event["id"]
    invoice.refresh_from_db()
    assert (invoice.status, invoice.amount_paid) == ("paid", invoice.total)
    assert invoice.postings.filter(kind="payment_received").count() == 1
    assert not StripeEvent.objects.filter(processed_at=None).exists()


def test_voided_and_written_off_at_stripe(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    first, second = (a_pushed_invoice(customer, now=now) for _ in range(2))
    post(f"/v1/invoices/{first.stripe_invoice}/void")
    post(f"/v1/invoices/{second.stripe_invoice}/mark_uncollectible")
    deliver()
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.status, second.status) == ("void", "uncollectible")


def test_what_is_voided_or_written_off_here_is_collected_no_more(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    voided, written_off, untouched = (a_pushed_invoice(customer, now=now) for _ in range(3))
    collecting.void(voided.pk, actor="opk_x", now=now)
    collecting.mark_uncollectible(written_off.pk, actor="opk_x", now=now)

    simulator.fault("drop_after", method="POST", path="*/void", times=3)
    assert retracting.retract_due(now=now, limit=10) == 1
    assert retracting.retract_due(now=now, limit=10) == 0  # the lost answer is not due yet
    assert retracting.retract_due(now=now + timedelta(minutes=1), limit=10) == 1
    assert retracting.retract_due(now=now + timedelta(days=1), limit=10) == 0

    statuses = [simulator.get(str(i.stripe_invoice))["status"] for i in (voided, written_off)]
    assert statuses == ["void", "uncollectible"]
    assert simulator.get(str(untouched.stripe_invoice))["status"] == "open"
    deliver()
    voided.refresh_from_db()
    written_off.refresh_from_db()
    assert (voided.status, written_off.status) == ("void", "uncollectible")


def test_what_stripe_voided_itself_is_not_voided_there_again(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    invoice = a_pushed_invoice(customer, now=now)
    path = f"/v1/invoices/{invoice.stripe_invoice}/void"
    post(path)
    deliver()
    assert retracting.retract_due(now=now, limit=10) == 1
    assert retracting.retract_due(now=now, limit=10) == 0
    assert len(simulator.requests("POST", path)) == 1


def test_an_invoice_voided_while_it_was_pushed_is_found_and_retracted(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    invoice = a_pending_invoice(customer, now=now)
    simulator.fault("drop_after", method="POST", path="*/finalize", times=3)
    push_due(now=now, limit=1)
    collecting.void(invoice.pk, actor="opk_x", now=now)
    deliver()
    assert retracting.retract_due(now=now, limit=10) == 1
    (found,) = simulator.all("invoice")
    assert found["status"] == "void"


def test_a_sweep_finds_what_no_message_told(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    give_card(customer, now=now)
    invoice = a_pushed_invoice(customer, now=now)
    assert mirroring.sweep(now=now, limit=10) == 1
    invoice.refresh_from_db()
    assert invoice.status == Invoice.Status.PAID
    assert mirroring.sweep(now=now, limit=10) == 0


def test_a_card_taken_away_is_not_charged_on(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    method = give_card(customer, now=now)
    assert StripeCustomer.objects.get(customer=customer).payment_method == method
    post(f"/v1/payment_methods/{method}/detach")
    deliver()
    assert StripeCustomer.objects.get(customer=customer).payment_method == ""


def test_a_customer_deleted_at_stripe_cannot_be_charged(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    give_card(customer, now=now)
    row = StripeCustomer.objects.get(customer=customer)
    client.delete(f"/v1/customers/{row.stripe_customer}")
    deliver()
    row.refresh_from_db()
    assert row.deleted_at is not None
    assert row.payment_method == ""


def test_a_refund_leaves_the_invoice_paid(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    give_card(customer, now=now)
    invoice = a_pushed_invoice(customer, now=now)
    (charge,) = simulator.all("charge")
    post("/v1/refunds", charge=charge["id"], amount=100)
    deliver()
    invoice.refresh_from_db()
    assert (invoice.status, invoice.amount_paid) == ("paid", invoice.total)
    note = AuditEntry.objects.get(subject=invoice.public_id, action="invoice.refunded")
    assert note.changes["amount"] == 100


def test_a_dispute_leaves_a_note(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    give_card(customer, test_card="pm_card_createDispute", now=now)
    invoice = a_pushed_invoice(customer, now=now)
    deliver()
    note = AuditEntry.objects.filter(subject=invoice.public_id, action="invoice.disputed").first()
    assert note is not None
    assert note.changes["amount"] == invoice.total


def test_an_invoice_whose_total_differs_is_quarantined(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    invoice = a_pushed_invoice(customer, now=now)
    found = mirroring.read_invoice(str(invoice.stripe_invoice)) | {"total": 1, "status": "paid"}
    mirroring.apply(invoice, found=found, now=now)
    invoice.refresh_from_db()
    assert (invoice.push, invoice.status) == ("quarantined", "open")


def test_what_is_not_ours_is_left_alone(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    post("/v1/customers", name="Somebody else")
    (theirs,) = simulator.all("customer")
    post("/v1/invoices", customer=theirs["id"], currency="usd")
    (invoice,) = simulator.all("invoice")
    post(f"/v1/invoices/{invoice['id']}/finalize")
    deliver()
    assert StripeCustomer.objects.count() == 0
    outcomes = StripeEvent.objects.exclude(outcome="ignored").values_list("outcome", flat=True)
    assert set(outcomes) == {"ignored: not ours"}
