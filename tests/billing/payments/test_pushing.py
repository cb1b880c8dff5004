"""An issued invoice becomes exactly one invoice at Stripe, right to the cent."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from accounts.models import Customer
from billing.models import Invoice, StripeCustomer, StripeStep
from billing.operations import collecting
from billing.payments import client
from billing.payments.pushing import push_due
from billing.payments.simulator import Simulator
from tests.billing.payments.asserting import (
    assert_one_right_invoice,
    push_until_settled,
    stripe_invoice_of,
)
from tests.factories.payments import a_pending_invoice, give_card

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
CREATE, ADD, FINALIZE = "/v1/invoices", "/v1/invoices/*/add_lines", "/v1/invoices/*/finalize"


def steps_of(invoice: Invoice) -> list[tuple[str, int, str]]:
    rows = StripeStep.objects.filter(invoice=invoice).order_by("created_at", "chunk", "attempt")
    return [(step.kind, step.attempt, step.state) for step in rows]


def test_an_invoice_is_pushed_and_paid(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Callable[[], int]
) -> None:
    give_card(customer, now=now)
    invoice = a_pending_invoice(customer, amounts=(2_000, 345, -45), now=now)

    assert push_due(now=now, limit=10) == 1
    assert_one_right_invoice(simulator, invoice)
    assert invoice.hosted_url.startswith(simulator.url)
    assert push_due(now=now + DAY, limit=10) == 0

    deliver()
    invoice.refresh_from_db()
    assert (invoice.status, invoice.amount_paid) == (Invoice.Status.PAID, 2_300)
    (charge,) = simulator.all("charge")
    assert (charge["amount"], charge["paid"]) == (2_300, True)


def test_lines_beyond_one_chunk_are_all_there(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    invoice = a_pending_invoice(customer, amounts=tuple(range(1, 121)), now=now)
    push_due(now=now, limit=1)
    assert_one_right_invoice(simulator, invoice)
    kinds = StripeStep.objects.filter(invoice=invoice).order_by("created_at", "chunk")
    assert [(s.kind, s.chunk) for s in kinds] == [
        ("create", 0),
        ("add_lines", 0),
        ("add_lines", 1),
        ("add_lines", 2),
        ("finalize", 0),
    ]


@pytest.mark.parametrize("path", ["/v1/customers", CREATE, ADD, FINALIZE])
@pytest.mark.parametrize("fault", ["drop_before", "drop_after", "409", "429", "500"])
def test_a_call_that_fails_is_repeated_with_its_key(
    simulator: Simulator, customer: Customer, now: datetime, path: str, fault: str
) -> None:
    invoice = a_pending_invoice(customer, now=now)
    # The SDK repeats twice by itself (not after a 429): the fourth call is ours.
    simulator.fault(fault, method="POST", path=path, times=1 if fault == "429" else 3)

    push_due(now=now, limit=1)
    invoice.refresh_from_db()
    assert invoice.push == Invoice.Push.PENDING
    assert invoice.next_push_at is not None
    assert now < invoice.next_push_at < now + timedelta(minutes=1)

    push_until_settled(invoice, now=now + timedelta(minutes=1))
    assert_one_right_invoice(simulator, invoice)
    assert len(simulator.all("customer")) == 1
    assert all(attempt == 1 for _, attempt, _ in steps_of(invoice))
    keys = {request["idempotency_key"] for request in simulator.requests("POST")}
    assert len(keys) == 4


@pytest.mark.parametrize("path", [CREATE, ADD, FINALIZE])
@pytest.mark.parametrize(
    ("fault", "attempts"), [("500_replay", 2), ("500_replay_after", 1)], ids=["lost", "done"]
)
def test_a_500_that_stripe_repeats_is_looked_into(
    simulator: Simulator, customer: Customer, now: datetime, path: str, fault: str, attempts: int
) -> None:
    """Stripe stored a 500 under the key: only looking tells whether the call had its effect."""
    invoice = a_pending_invoice(customer, now=now)
    simulator.fault(fault, method="POST", path=path)

    push_until_settled(invoice, now=now)

    assert_one_right_invoice(simulator, invoice)
    assert max(attempt for _, attempt, _ in steps_of(invoice)) == attempts


@pytest.mark.parametrize("path", [CREATE, ADD, FINALIZE])
@pytest.mark.parametrize(("fault", "attempts"), [("drop_before", 2), ("drop_after", 1)])
def test_a_key_that_may_be_forgotten_is_not_used_again(
    simulator: Simulator, customer: Customer, now: datetime, path: str, fault: str, attempts: int
) -> None:
    invoice = a_pending_invoice(customer, now=now)
    simulator.fault(fault, method="POST", path=path, times=3)
    push_due(now=now, limit=1)
    (waiting,) = StripeStep.objects.filter(state="pending")

    simulator.advance(25 * 3_600)
    push_until_settled(invoice, now=now + timedelta(hours=25))

    assert_one_right_invoice(simulator, invoice)
    assert max(attempt for _, attempt, _ in steps_of(invoice)) == attempts
    waiting.refresh_from_db()
    assert waiting.state == ("done" if attempts == 1 else "abandoned")
    assert waiting.sends == 1


def test_a_customer_that_was_made_is_found_again(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    invoice = a_pending_invoice(customer, now=now)
    simulator.fault("drop_after", method="POST", path="/v1/customers", times=3)
    push_due(now=now, limit=1)
    simulator.advance(25 * 3_600)
    push_until_settled(invoice, now=now + timedelta(hours=25))
    (made,) = simulator.all("customer")
    assert StripeCustomer.objects.get(customer=customer).stripe_customer == made["id"]


def test_an_invoice_that_differs_is_never_finalized(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    invoice = a_pending_invoice(customer, now=now)
    simulator.fault("wrong_total", method="POST", path=ADD)

    assert push_due(now=now, limit=10) == 1
    invoice.refresh_from_db()
    assert invoice.push == Invoice.Push.QUARANTINED
    assert "total: ours 2345, Stripe's 2346" in invoice.push_problem
    assert stripe_invoice_of(simulator, invoice)["status"] == "draft"
    assert push_due(now=now + DAY, limit=10) == 0

    # An operator lets it go: the wrong draft is thrown away and a new one made.
    collecting.release_quarantine(invoice.pk, actor="opk_x", now=now + DAY)
    push_until_settled(invoice, now=now + DAY)
    assert_one_right_invoice(simulator, invoice)


def test_a_released_invoice_that_still_differs_is_quarantined_again(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    invoice = a_pending_invoice(customer, now=now)
    simulator.fault("wrong_total", method="POST", path=ADD, times=2)
    push_due(now=now, limit=1)
    collecting.release_quarantine(invoice.pk, actor="opk_x", now=now)
    push_until_settled(invoice, now=now)
    assert invoice.push == Invoice.Push.QUARANTINED
    assert stripe_invoice_of(simulator, invoice)["status"] == "draft"


def test_a_refusal_is_quarantined_and_mended(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    invoice = a_pending_invoice(customer, now=now)
    StripeCustomer.objects.create(customer=customer, stripe_customer="cus_gone", updated_at=now)
    push_due(now=now, limit=1)
    invoice.refresh_from_db()
    assert invoice.push == Invoice.Push.QUARANTINED
    assert "No such customer" in invoice.push_problem
    assert simulator.all("invoice") == []

    StripeCustomer.objects.all().delete()
    collecting.release_quarantine(invoice.pk, actor="opk_x", now=now)
    push_until_settled(invoice, now=now)
    assert_one_right_invoice(simulator, invoice)


def test_an_invoice_of_a_deleted_customer_waits_for_an_operator(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    invoice = a_pending_invoice(customer, now=now)
    StripeCustomer.objects.create(
        customer=customer, stripe_customer="cus_x", updated_at=now, deleted_at=now
    )
    push_due(now=now, limit=1)
    invoice.refresh_from_db()
    assert invoice.push == Invoice.Push.QUARANTINED
    assert simulator.requests() == []


@pytest.mark.parametrize("amounts", [(49,), (0,), (-5,), (1,) * 251])
def test_what_stripe_would_not_collect_is_not_sent(
    simulator: Simulator, customer: Customer, now: datetime, amounts: tuple[int, ...]
) -> None:
    invoice = a_pending_invoice(customer, amounts=amounts, now=now)
    push_due(now=now, limit=1)
    invoice.refresh_from_db()
    assert invoice.push == Invoice.Push.QUARANTINED
    assert simulator.requests() == []


def test_a_refused_key_stops_everything_and_fails_nothing(
    simulator: Simulator, customer: Customer, now: datetime, settings: Settings
) -> None:
    invoices = [a_pending_invoice(customer, now=now) for _ in range(3)]
    settings.STRIPE_API_KEY = "sk_test_invalid"
    assert push_due(now=now, limit=10) == 1
    assert push_due(now=now, limit=10) == 1  # the breaker is open: nothing is called
    assert len(simulator.requests()) == 1
    assert {step.state for step in StripeStep.objects.all()} == {"pending"}
    assert {step.sends for step in StripeStep.objects.all()} == {0}

    settings.STRIPE_API_KEY = ""
    client.forget()
    for invoice in invoices:
        push_until_settled(invoice, now=now + timedelta(minutes=2))
    assert len(simulator.all("invoice")) == 3


def test_without_a_stripe_nothing_is_pushed(
    db: None, customer: Customer, now: datetime, settings: Settings
) -> None:
    settings.STRIPE_API_KEY = settings.STRIPE_API_BASE = ""
    invoice = a_pending_invoice(customer, now=now)
    assert push_due(now=now, limit=10) == 0
    invoice.refresh_from_db()
    assert invoice.next_push_at == now


def test_an_operator_pushes_what_waits_and_sees_how_far_it_is(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    invoices = [a_pending_invoice(customer, now=now) for _ in range(21)]
    told, progress = StringIO(), StringIO()
    call_command("stripe", "push", "--json", stdout=told, stderr=progress)
    assert json.loads(told.getvalue()) == {
        "pushed": 21, "due": 0, "later": 0, "quarantined": 0,
    }  # fmt: skip
    assert progress.getvalue().splitlines()[0].startswith("20 pushed; 1 due")
    assert {Invoice.objects.get(pk=each.pk).push for each in invoices} == {"pushed"}
    told = StringIO()
    call_command("stripe", "push", stdout=told, stderr=StringIO())
    assert told.getvalue().startswith("0 pushed; 0 due")


def test_what_does_not_get_there_is_told(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    invoice = a_pending_invoice(customer, amounts=(1,), now=now)
    told = StringIO()
    with pytest.raises(CommandError, match="Not all are there"):
        call_command("stripe", "push", "--json", stdout=told, stderr=StringIO())
    assert json.loads(told.getvalue())["quarantined"] == 1
    assert Invoice.objects.get(pk=invoice.pk).push == "quarantined"


def test_without_a_stripe_the_command_says_so(customer: Customer, now: datetime) -> None:
    invoice = a_pending_invoice(customer, now=now)
    with pytest.raises(CommandError, match="STRIPE_API_KEY"):
        call_command("stripe", "push", stderr=StringIO())
    assert Invoice.objects.get(pk=invoice.pk).push == "pending"


def test_a_live_key_is_refused_while_debugging(
    customer: Customer, now: datetime, settings: Settings
) -> None:
    settings.STRIPE_API_KEY, settings.DEBUG = "sk_live_x", True
    a_pending_invoice(customer, now=now)
    with pytest.raises(client.LiveKeyInDebug):
        push_due(now=now, limit=10)


def test_a_fault_of_ours_keeps_no_other_invoice_waiting(
    simulator: Simulator, customer: Customer, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = a_pending_invoice(customer, now=now - DAY)
    second = a_pending_invoice(customer, now=now)
    simulator.fault("drop_before", method="GET", path="/v1/invoices/*", times=3)
    assert push_due(now=now, limit=10) == 2
    first.refresh_from_db()
    assert first.push == Invoice.Push.PENDING
    assert_one_right_invoice(simulator, second)
    push_until_settled(first, now=now + timedelta(minutes=10))
    assert_one_right_invoice(simulator, first)


def test_only_the_lines_that_are_missing_are_added_again(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    invoice = a_pending_invoice(customer, amounts=tuple(range(1, 61)), now=now)
    simulator.fault("drop_before", method="GET", path="/v1/invoices/*", times=3)
    push_due(now=now, limit=1)
    found = stripe_invoice_of(simulator, invoice)
    lost = [line for line in simulator.all("line_item") if line["amount"] in (7, 8, 60)]
    removal = {"lines": [{"id": line["id"], "behavior": "delete"} for line in lost]}
    answer = client.post(f"/v1/invoices/{found['id']}/remove_lines", params=removal, key="remove")
    assert answer.status == 200

    push_until_settled(invoice, now=now + timedelta(minutes=10))
    assert_one_right_invoice(simulator, invoice)
    again = StripeStep.objects.filter(invoice=invoice, kind="add_lines", attempt=2)
    assert sorted(len(step.request["params"]["lines"]) for step in again) == [1, 2]


def test_a_foreign_line_is_a_difference(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    invoice = a_pending_invoice(customer, now=now)
    simulator.fault("drop_before", method="GET", path="/v1/invoices/*", times=3)
    push_due(now=now, limit=1)
    found = stripe_invoice_of(simulator, invoice)
    foreign = {"lines": [{"amount": 5, "description": "by hand"}]}
    client.post(f"/v1/invoices/{found['id']}/add_lines", params=foreign, key="foreign")
    push_until_settled(invoice, now=now + timedelta(minutes=10))
    assert invoice.push == Invoice.Push.QUARANTINED
    assert stripe_invoice_of(simulator, invoice)["status"] == "draft"
