"""Refunds, disputes, warnings and deleted customers as Stripe tells them, in any order."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from accounts.models import AuditEntry, Customer
from accounts.operations.customers import CustomerChanges, change_customer
from billing.domain.ledger import Account
from billing.models import Dispute, Invoice, LedgerPosting, StripeCustomer, StripeEvent, StripeStep
from billing.operations import collecting
from billing.operations.holding import link_anew, release_collection
from billing.payments import client, customers, handlers, holding, inbox, mirroring
from billing.payments.pushing import push_due
from billing.payments.simulator import Simulator
from billing.queries.ledger import account_balance
from tests.billing.payments.asserting import assert_one_right_invoice, push_until_settled
from tests.factories.accounts import a_customer
from tests.factories.payments import a_pending_invoice, give_card
from tests.factories.threads import at_once

pytestmark = pytest.mark.django_db
Deliver = Callable[[], int]
DISPUTED, WARNED = "pm_card_createDispute", "pm_card_createIssuerFraudRecord"
DECLINED = "pm_card_chargeCustomerFail"


def a_paid_invoice(
    customer: Customer, *, now: datetime, test_card: str = "pm_card_visa"
) -> Invoice:
    give_card(customer, test_card=test_card, now=now)
    invoice = a_pending_invoice(customer, now=now)
    assert push_due(now=now, limit=1) == 1
    invoice.refresh_from_db()
    return invoice


def post(path: str, **params: object) -> dict[str, object]:
    answer = client.post(path, params=params, key=f"test-{path}-{params}")
    assert answer.status == 200, answer
    return answer.body


def booked(customer: Customer, account: Account) -> int:
    return account_balance(customer.pk, account=account, currency="usd")


def shuffled(simulator: Simulator, *, seed: int, now: datetime) -> None:
    """Every event twice, in another order."""
    events = simulator.events() * 2
    random.Random(seed).shuffle(events)
    for event in events:
        body, signature = simulator.signed(event["id"])
        inbox.store(body, signature=signature, now=now)
        inbox.process_pending(now=now, limit=1)


@pytest.mark.parametrize("seed", range(3))
def test_refunds_are_posted_once_each(
    simulator: Simulator, customer: Customer, now: datetime, seed: int
) -> None:
    invoice = a_paid_invoice(customer, now=now)
    (charge,) = simulator.all("charge")
    post("/v1/refunds", charge=charge["id"], amount=100)
    failed = post("/v1/refunds", charge=charge["id"], amount=200)
    simulator.fail_refund(str(failed["id"]))
    shuffled(simulator, seed=seed, now=now)
    invoice.refresh_from_db()
    assert (invoice.status, invoice.amount_paid) == ("paid", invoice.total)
    assert booked(customer, Account.REFUNDS) == 100
    assert booked(customer, Account.CASH) == invoice.total - 100
    kinds = LedgerPosting.objects.filter(kind__startswith="refund").values_list("kind", flat=True)
    assert sorted(kinds) == ["refund_failed", "refund_given", "refund_given"]


@pytest.mark.django_db(transaction=True)
def test_refunds_disputes_and_warnings_delivered_to_many_workers_count_once(
    simulator: Simulator, now: datetime
) -> None:
    customer = a_customer()
    a_paid_invoice(customer, test_card=WARNED, now=now)
    refunded = simulator.all("charge")[-1]
    for amount in (100, 200):
        post("/v1/refunds", charge=refunded["id"], amount=amount)
    a_paid_invoice(customer, test_card=DISPUTED, now=now)
    (found,) = simulator.all("dispute")
    post(f"/v1/disputes/{found['id']}/close")
    kinds = "charge.refunded", "charge.dispute.closed", "radar.early_fraud_warning.created"
    rows = [_kept(simulator, event["id"], now=now) for k in kinds for event in simulator.events(k)]

    at_once([lambda row=row: handlers.handle(row, now=now) for row in rows] * 2)

    assert booked(customer, Account.REFUNDS) == 300
    assert booked(customer, Account.CHARGEBACKS) == 2_345
    assert Dispute.objects.count() == 2
    actions = AuditEntry.objects.filter(customer=customer).values_list("action", flat=True)
    assert list(actions).count("collection.held") == 1
    assert list(actions).count("customer.suspended") == 1


def _kept(simulator: Simulator, event_id: str, *, now: datetime) -> StripeEvent:
    body, signature = simulator.signed(event_id)
    row = inbox.store(body, signature=signature, now=now)
    assert row is not None
    return row


@pytest.mark.parametrize(
    ("evidence", "cash"), [("winning_evidence", 2_345), ("losing_evidence", 0)]
)
def test_a_dispute_is_followed_to_its_end(
    simulator: Simulator, customer: Customer, now: datetime, evidence: str, cash: int
) -> None:
    a_paid_invoice(customer, test_card=DISPUTED, now=now)
    (found,) = simulator.all("dispute")
    post(f"/v1/disputes/{found['id']}", evidence={"uncategorized_text": evidence})
    shuffled(simulator, seed=1, now=now)
    row, dispute = StripeCustomer.objects.get(), Dispute.objects.get()
    assert dispute.reference == found["id"]
    assert booked(customer, Account.CASH) == cash
    assert booked(customer, Account.CHARGEBACKS) == 2_345 - cash
    assert (row.held_at is not None) == (cash == 0)


def test_a_dispute_freezes_while_it_is_open(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    a_paid_invoice(customer, test_card=DISPUTED, now=now)
    deliver()
    assert Dispute.objects.get().closed_at is None
    assert booked(customer, Account.DISPUTED) == 2_345


def test_a_fraud_warning_stops_collection_until_it_is_released(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    a_paid_invoice(customer, test_card=WARNED, now=now)
    a_paid_invoice(customer, test_card=DECLINED, now=now)  # stays open, Stripe tries again
    waiting = a_pending_invoice(customer, now=now)
    deliver()
    (failed,) = Invoice.objects.filter(push="pushed", status="open")
    assert StripeCustomer.objects.get().held_at is not None
    assert simulator.get(str(failed.stripe_invoice))["auto_advance"] is False
    charges = len(simulator.all("charge"))
    assert push_due(now=now, limit=10) == 0
    simulator.advance(9 * 86_400)
    assert len(simulator.all("charge")) == charges
    assert holding.follow_holds(now=now, limit=10) == 0

    release_collection(customer.pk, actor="opk_x", now=now)
    assert holding.follow_holds(now=now, limit=10) == 1
    assert holding.follow_holds(now=now, limit=10) == 0
    assert simulator.get(str(failed.stripe_invoice))["auto_advance"] is True
    push_until_settled(waiting, now=now)
    assert_one_right_invoice(simulator, waiting)


def test_a_new_card_is_not_charged_while_collection_is_held(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    a_paid_invoice(customer, test_card=WARNED, now=now)
    deliver()
    StripeCustomer.objects.update(held_at=now)
    paid = len(simulator.requests("POST"))
    give_card(customer, now=now)
    deliver()
    assert not [r for r in simulator.requests("POST")[paid:] if r["path"].endswith("/pay")]


def test_a_refund_answers_a_warning(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    a_paid_invoice(customer, test_card=WARNED, now=now)
    (charge,) = simulator.all("charge")
    post("/v1/refunds", charge=charge["id"])
    deliver()
    assert Dispute.objects.get().status == "answered"
    assert booked(customer, Account.CASH) == 0


def test_holds_that_stripe_knows_of_keep_no_other_from_being_told(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    failed = [a_paid_invoice(customer, test_card=DECLINED, now=now) for _ in range(2)]
    deliver()
    StripeCustomer.objects.update(held_at=now)
    assert [holding.follow_holds(now=now, limit=1) for _ in range(3)] == [1, 1, 0]
    for each in failed:
        assert simulator.get(str(each.stripe_invoice))["auto_advance"] is False


@pytest.mark.parametrize("fault", ["drop_after", "500", "429"])
def test_a_hold_is_told_to_stripe_again_until_it_is_heard(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver, fault: str
) -> None:
    failed = a_paid_invoice(customer, test_card=DECLINED, now=now)
    deliver()
    StripeCustomer.objects.update(held_at=now)
    simulator.fault(fault, method="POST", path="/v1/invoices/*", times=3)
    assert holding.follow_holds(now=now, limit=10) == 0
    assert holding.follow_holds(now=now, limit=10) == 0  # not due again yet
    simulator.clear_faults()
    assert holding.follow_holds(now=now + timedelta(minutes=1), limit=10) == 1
    assert simulator.get(str(failed.stripe_invoice))["auto_advance"] is False
    assert StripeStep.objects.filter(kind="collect").count() == 1


def test_open_invoices_of_a_deleted_customer_wait_for_an_operator(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    failed = a_paid_invoice(customer, test_card=DECLINED, now=now)
    pending = a_pending_invoice(customer, now=now)
    gone = StripeCustomer.objects.get().stripe_customer
    client.delete(f"/v1/customers/{gone}")
    deliver()
    for invoice in (failed, pending):
        invoice.refresh_from_db()
        assert invoice.push == "quarantined"
        assert "deleted at Stripe" in invoice.push_problem

    link_anew(customer.pk, actor="opk_x", now=now)
    give_card(customer, now=now)
    assert StripeCustomer.objects.get().stripe_customer != gone
    collecting.release_quarantine(pending.pk, actor="opk_x", now=now)
    push_until_settled(pending, now=now)
    assert_one_right_invoice(simulator, pending)
    collecting.mark_paid_manually(failed.pk, reference="wire", actor="opk_x", now=now)
    failed.refresh_from_db()
    assert failed.status == "paid"


@pytest.mark.parametrize("amount", [1_000, 2_345])
def test_what_a_credit_note_at_stripe_settled_is_for_an_operator(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver, amount: int
) -> None:
    failed = a_paid_invoice(customer, test_card=DECLINED, now=now)
    deliver()
    post("/v1/credit_notes", invoice=str(failed.stripe_invoice), amount=amount)
    give_card(customer, now=now)
    deliver()
    deliver()
    failed.refresh_from_db()
    assert (failed.status, failed.push) == ("open", "quarantined")
    assert (failed.amount_paid, failed.amount_due) == (2_345 - amount, amount)
    assert "settled there" in failed.push_problem
    collecting.mark_paid_manually(failed.pk, reference="credit note", actor="opk_x", now=now)
    assert mirroring.refresh(failed, now=now)["status"] == "paid"
    failed.refresh_from_db()
    assert failed.status == "paid"


def test_what_came_in_beyond_an_invoice_is_for_an_operator(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    paid = a_paid_invoice(customer, now=now)
    deliver()
    simulator.overpay(str(paid.stripe_invoice), 500)
    deliver()
    paid.refresh_from_db()
    assert (paid.status, paid.amount_paid, paid.push) == ("paid", 2_345, "quarantined")
    assert "500 usd more than was owed" in paid.push_problem


def test_a_new_name_is_told_to_stripe_once(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    customers.ensure_customer(customer, now=now)
    assert customers.tell_changes(now=now, limit=10) == 0
    change: CustomerChanges = {"name": "Countess Ada", "email": ""}
    change_customer(customer.pk, changes=change, actor="opk_x", now=now)
    simulator.fault("drop_after", method="POST", path="/v1/customers/*", times=3)
    assert customers.tell_changes(now=now, limit=10) == 0
    assert customers.tell_changes(now=now, limit=10) == 0  # not due again yet
    assert customers.tell_changes(now=now + timedelta(minutes=1), limit=10) == 1
    assert customers.tell_changes(now=now + timedelta(minutes=2), limit=10) == 0
    (at_stripe,) = simulator.all("customer")
    assert (at_stripe["name"], at_stripe["email"]) == ("Countess Ada", None)
    # There and back again: what was told before is told again.
    for name in ("Ada", "Countess Ada"):
        change_customer(customer.pk, changes={"name": name}, actor="opk_x", now=now)
        assert customers.tell_changes(now=now, limit=10) == 1
        assert simulator.all("customer")[0]["name"] == name


def test_a_name_is_not_told_where_stripe_is_away_or_refuses(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    row = customers.ensure_customer(customer, now=now)
    change_customer(customer.pk, changes={"name": "Ada L."}, actor="opk_x", now=now)
    client.breaker.open("no such key")
    assert customers.tell_changes(now=now, limit=10) == 0
    client.breaker.close()
    StripeCustomer.objects.update(stripe_customer="cus_nobody1")
    customers.tell_changes(now=now, limit=10)
    row.refresh_from_db()
    assert customers.tell_changes(now=now + timedelta(hours=1), limit=10) == 0


def test_nothing_of_others_is_taken_for_ours(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    invoice = a_paid_invoice(customer, test_card=WARNED, now=now)
    (charge,) = simulator.all("charge")
    post("/v1/refunds", charge=charge["id"], amount=100)
    mirroring.refresh(invoice, now=now)
    Invoice.objects.filter(pk=invoice.pk).update(stripe_invoice=None)
    kinds = ("refund.created", "charge.refunded", "radar.early_fraud_warning.created")
    for kind in kinds:
        for event in simulator.events(kind):
            body, signature = simulator.signed(event["id"])
            inbox.store(body, signature=signature, now=now)
    inbox.process_pending(now=now, limit=10)
    outcomes = set(StripeEvent.objects.values_list("outcome", flat=True))
    assert outcomes == {"ignored: not ours"}
    assert not Dispute.objects.exists()
