"""Top-ups at Stripe: charged once, in the wallet once, whatever is lost, late, or declined."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from pytest_django import Settings

from accounts.models import AuditEntry, Customer
from billing.domain.top_ups import AutoTopUpTerms
from billing.models import AutoTopUp, Invoice, StripeCustomer, StripeStep, Wallet
from billing.operations import checking, crediting, drawing, topping_up
from billing.operations.collecting import release_quarantine
from billing.operations.holding import hold_collection, release_collection
from billing.payments import charging, client, inbox, paying, reconciling
from billing.payments.holding import follow_holds
from billing.payments.mirroring import sweep
from billing.payments.pushing import push_due
from billing.payments.retracting import retract_due
from billing.payments.simulator import Simulator, enter_card
from tests.factories.accounts import a_customer
from tests.factories.billing import ACTOR
from tests.factories.payments import a_pending_invoice, give_card
from tests.factories.threads import at_once
from tests.factories.top_ups import subscribed

pytestmark = pytest.mark.django_db
DECLINED = "pm_card_chargeCustomerFail"
THREE_D_SECURE = "pm_card_authenticationRequired"
TERMS = AutoTopUpTerms(threshold=1_000, amount=2_000, monthly_cap=5_000)
MINUTE = timedelta(minutes=1)
Deliver = Callable[[], int]


@pytest.fixture
def payer(simulator: Simulator, customer: Customer, now: datetime) -> Customer:
    give_card(customer, now=now)
    return customer


def begin(customer: Customer, *, amount: int = 2_500, now: datetime) -> Invoice:
    return topping_up.begin_top_up(customer.pk, amount=amount, actor=ACTOR, now=now)


def automatic(customer: Customer, *, now: datetime) -> AutoTopUp:
    subscribed(customer, now=now)
    return topping_up.set_auto_top_up(customer.pk, terms=TERMS, actor=ACTOR, now=now)


def balance(customer: Customer) -> Decimal:
    return Wallet.objects.get(customer=customer).balance


def charges(simulator: Simulator) -> list[int]:
    return [charge["amount"] for charge in simulator.all("charge") if charge["paid"]]


def test_a_top_up_is_in_the_wallet_once_whoever_tells_of_it(
    simulator: Simulator, payer: Customer, now: datetime, deliver: Deliver
) -> None:
    top_up = charging.charge_at_once(begin(payer, now=now), now=now)
    assert (top_up.status, top_up.number, top_up.amount_paid) == ("paid", "TU-000001", 2_500)
    deliver()
    inbox.poll(now=now)
    inbox.process_pending(now=now, limit=100)
    sweep(now=now, limit=10)
    assert charging.charge_due(now=now, limit=10) == 0
    assert (balance(payer), charges(simulator)) == (Decimal(25), [2_500])
    (there,) = simulator.all("invoice")
    assert (there["status"], there["auto_advance"]) == ("paid", False)
    assert checking.broken_invariants(now=now) == []
    later = now + timedelta(hours=2)
    assert reconciling.compare(now - MINUTE, later, now=later).found == []


def test_no_tax_is_asked_for(
    simulator: Simulator, payer: Customer, now: datetime, settings: Settings
) -> None:
    settings.STRIPE_TAX, settings.STRIPE_TAX_BEHAVIOR = True, "exclusive"
    top_up = charging.charge_at_once(begin(payer, now=now), now=now)
    assert (top_up.status, top_up.amount_paid, top_up.tax_added) == ("paid", 2_500, 0)
    (there,) = simulator.all("invoice")
    assert there["automatic_tax"]["enabled"] is False


def test_the_message_may_come_before_any_answer_of_ours(
    simulator: Simulator, payer: Customer, now: datetime, deliver: Deliver
) -> None:
    top_up = begin(payer, now=now)
    simulator.fault("drop_after", method="POST", path="/v1/invoices/*/pay", times=3)
    charging.charge_at_once(top_up, now=now)
    top_up.refresh_from_db()
    assert (top_up.status, charges(simulator)) == ("open", [2_500])
    deliver()
    assert balance(payer) == Decimal(25)
    charging.charge_due(now=now + MINUTE, limit=10)
    sweep(now=now + MINUTE, limit=10)
    assert (balance(payer), charges(simulator)) == (Decimal(25), [2_500])


@pytest.mark.parametrize("fault", ["drop_before", "drop_after", "409", "500"])
def test_a_lost_answer_is_asked_for_again_with_the_same_key(
    simulator: Simulator, payer: Customer, now: datetime, fault: str
) -> None:
    top_up = begin(payer, now=now)
    simulator.fault(fault, method="POST", path="/v1/invoices/*/pay", times=3)
    charging.charge_at_once(top_up, now=now)
    assert charging.charge_due(now=now, limit=10) == 0  # not before its time
    charging.charge_due(now=now + MINUTE, limit=10)
    assert (balance(payer), charges(simulator)) == (Decimal(25), [2_500])
    (step,) = StripeStep.objects.filter(kind="pay")
    assert (step.attempt, step.state) == (1, "done")


@pytest.mark.parametrize("fault", ["drop_before", "drop_after"])
def test_a_forgotten_key_charges_nobody_twice(
    simulator: Simulator, payer: Customer, now: datetime, fault: str
) -> None:
    top_up = begin(payer, now=now)
    simulator.fault(fault, method="POST", path="/v1/invoices/*/pay", times=3)
    charging.charge_at_once(top_up, now=now)
    simulator.advance(25 * 3_600)
    charging.charge_due(now=now + timedelta(hours=25), limit=10)
    assert (balance(payer), charges(simulator)) == (Decimal(25), [2_500])


@pytest.mark.django_db(transaction=True)
def test_many_workers_charge_a_top_up_once(
    simulator: Simulator, payer: Customer, now: datetime
) -> None:
    top_up = begin(payer, now=now)
    push_due(now=now, limit=1)
    at_once([lambda: charging.charge_due(now=now, limit=5)] * 3)
    charging.charge_due(now=now + MINUTE, limit=5)
    sweep(now=now, limit=5)
    top_up.refresh_from_db()
    assert (top_up.status, balance(payer), charges(simulator)) == ("paid", Decimal(25), [2_500])
    assert checking.broken_invariants(now=now) == []


def test_a_declined_top_up_is_over_and_stops_the_automatic_ones(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    give_card(customer, test_card=DECLINED, now=now)
    settings = automatic(customer, now=now)
    assert topping_up.top_up_due(now=now, limit=10) == 1
    push_due(now=now, limit=10)
    assert charging.charge_due(now=now, limit=10) == 1
    top_up = Invoice.objects.get()
    assert (top_up.status, top_up.automatic, top_up.failure_code) == (
        "void",
        True,
        "generic_decline",
    )
    settings.refresh_from_db()
    assert settings.suppressed_by == top_up
    # Nobody tries again, here or at Stripe, however often it is looked at.
    deliver()
    retract_due(now=now, limit=10)
    simulator.advance(10 * 86_400)
    deliver()
    later = now + timedelta(days=10)
    assert topping_up.top_up_due(now=later, limit=10) == 0
    assert charging.charge_due(now=later, limit=10) == 0
    assert (len(simulator.all("charge")), balance(customer)) == (1, Decimal(0))
    assert [each["status"] for each in simulator.all("invoice")] == ["void"]
    assert AuditEntry.objects.filter(action="auto_top_up.suppressed").count() == 1

    # Another card: it goes on by itself, and what failed does not come back.
    give_card(customer, now=later)
    assert topping_up.top_up_due(now=later, limit=10) == 1
    push_due(now=later, limit=10)
    charging.charge_due(now=later, limit=10)
    assert (charges(simulator), balance(customer)) == ([2_000], Decimal(20))
    assert checking.broken_invariants(now=later) == []


def test_who_switches_it_on_again_has_it_tried_again(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    give_card(customer, test_card=DECLINED, now=now)
    automatic(customer, now=now)
    for tries in (1, 2):
        assert topping_up.top_up_due(now=now, limit=10) == 1
        push_due(now=now, limit=10)
        charging.charge_due(now=now, limit=10)
        retract_due(now=now, limit=10)
        assert topping_up.top_up_due(now=now, limit=10) == 0
        assert len(simulator.all("charge")) == tries
        automatic(customer, now=now)


def test_three_d_secure_has_a_page_as_the_way_out(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    give_card(customer, test_card=THREE_D_SECURE, now=now)
    automatic(customer, now=now)
    topping_up.top_up_due(now=now, limit=10)
    top_up = charging.charge_at_once(Invoice.objects.get(), now=now)
    assert (top_up.status, top_up.failure_code) == ("open", "authentication_required")
    assert top_up.hosted_url.startswith("http")
    settings = AutoTopUp.objects.get()
    assert settings.suppressed_by == top_up
    deliver()
    assert topping_up.top_up_due(now=now, limit=10) == 0
    assert charging.charge_due(now=now, limit=10) == 0

    enter_card(top_up.hosted_url, "4000002500003155", authenticate=True)
    deliver()
    assert not AutoTopUp.objects.exclude(suppressed_at=None).exists()
    assert balance(customer) == Decimal(20)
    assert checking.broken_invariants(now=now) == []


def test_another_card_is_tried_on_what_waited_to_be_confirmed(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Deliver
) -> None:
    give_card(customer, test_card=THREE_D_SECURE, now=now)
    top_up = charging.charge_at_once(begin(customer, now=now), now=now)
    give_card(customer, now=now)
    deliver()
    top_up.refresh_from_db()
    assert (top_up.status, charges(simulator)) == ("paid", [2_500])


def test_another_card_is_not_tried_on_what_was_declined_unheard(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    give_card(customer, test_card=DECLINED, now=now)
    top_up = begin(customer, now=now)
    simulator.fault("drop_after", method="POST", path="/v1/invoices/*/pay", times=3)
    assert charging.charge_at_once(top_up, now=now).status == "open"
    give_card(customer, now=now)
    assert paying.retry_failed_invoices(StripeCustomer.objects.get(), now=now) == 0
    top_up.refresh_from_db()
    assert (top_up.status, charges(simulator)) == ("void", [])


def test_one_that_fails_keeps_no_other_from_its_turn(
    simulator: Simulator, payer: Customer, now: datetime
) -> None:
    first = begin(payer, now=now - MINUTE)
    Wallet.objects.update(balance=Decimal(10) ** 18 - 1)  # nothing more goes in
    give_card(other := a_customer(email="bob@example.com"), now=now)
    begin(other, now=now)
    push_due(now=now, limit=10)
    assert charging.charge_due(now=now, limit=10) == 1
    assert (balance(other), charges(simulator)) == (Decimal(25), [2_500, 2_500])

    a_pending_invoice(other, now=now)
    push_due(now=now, limit=10)
    assert sweep(now=now, limit=10) == 1
    simulator.fault("drop_before", method="GET", path="/v1/invoices/*", times=9)
    with pytest.raises(client.StripeUnreachable):
        sweep(now=now, limit=10)
    assert Invoice.objects.get(pk=first.pk).status == "open"


@pytest.mark.traced
def test_as_many_as_are_swept_at_once_may_fail_and_others_have_their_turn(
    simulator: Simulator, payer: Customer, now: datetime
) -> None:
    begin(payer, now=now - MINUTE)
    Wallet.objects.update(balance=Decimal(10) ** 18 - 1)  # nothing more goes in
    give_card(other := a_customer(email="bob@example.com"), now=now)
    a_pending_invoice(other, now=now)
    push_due(now=now, limit=10)
    charging.charge_due(now=now, limit=10)
    assert [sweep(now=now + turn * MINUTE, limit=1) for turn in range(3)] == [0, 1, 0]


def test_a_live_key_while_debugging_is_told_once_and_ends_the_round(
    simulator: Simulator, payer: Customer, now: datetime, settings: Settings
) -> None:
    begin(payer, now=now)
    give_card(other := a_customer(email="bob@example.com"), now=now)
    begin(other, now=now)
    push_due(now=now, limit=10)
    settings.STRIPE_API_KEY, settings.DEBUG = "sk_live_x", True
    with pytest.raises(client.LiveKeyInDebug):
        charging.charge_due(now=now, limit=10)
    with pytest.raises(client.LiveKeyInDebug):
        sweep(now=now, limit=10)
    assert Invoice.objects.filter(swept_at=now).count() == 1  # the round ended with the first
    assert charges(simulator) == []


def test_stripe_being_away_ends_the_round(
    simulator: Simulator, payer: Customer, now: datetime
) -> None:
    top_up = begin(payer, now=now)
    push_due(now=now, limit=10)
    simulator.fault("drop_before", method="GET", path="/v1/invoices/*", times=6)
    assert charging.charge_due(now=now, limit=10) == 0
    top_up.refresh_from_db()
    assert charging.charge_at_once(top_up, now=now).status == "open"
    assert charging.charge_due(now=now, limit=10) == 1
    assert (balance(payer), charges(simulator)) == (Decimal(25), [2_500])


def test_without_a_card_by_the_time_it_is_charged_it_fails(
    simulator: Simulator, payer: Customer, now: datetime
) -> None:
    top_up = begin(payer, now=now)
    push_due(now=now, limit=10)
    StripeCustomer.objects.update(payment_method="")
    charging.charge_due(now=now, limit=10)
    top_up.refresh_from_db()
    assert (top_up.status, top_up.failure_code) == ("void", paying.NO_METHOD)
    assert simulator.all("charge") == []


def test_a_refused_charge_waits_for_an_operator(
    simulator: Simulator, payer: Customer, now: datetime
) -> None:
    top_up = begin(payer, now=now)
    good = StripeCustomer.objects.get().payment_method
    StripeCustomer.objects.update(payment_method="pm_nobody1")
    top_up = charging.charge_at_once(top_up, now=now)
    assert (top_up.push, top_up.status) == ("quarantined", "open")
    assert charging.charge_due(now=now + MINUTE, limit=10) == 0
    StripeCustomer.objects.update(payment_method=good)
    release_quarantine(top_up.pk, actor=ACTOR, now=now)
    push_due(now=now, limit=10)
    charging.charge_due(now=now, limit=10)
    assert (balance(payer), charges(simulator)) == (Decimal(25), [2_500])


def test_money_for_a_canceled_top_up_still_goes_into_the_wallet(
    simulator: Simulator, payer: Customer, now: datetime, deliver: Deliver
) -> None:
    top_up = begin(payer, now=now)
    push_due(now=now, limit=10)
    top_up.refresh_from_db()
    path = f"/v1/invoices/{top_up.stripe_invoice}/pay"
    assert client.post(path, params={}, key="on-the-page").status == 200
    topping_up.cancel_top_up(payer.pk, top_up_id=top_up.pk, actor=ACTOR, now=now)
    assert charging.charge_due(now=now, limit=10) == 0
    retract_due(now=now, limit=10)
    deliver()
    top_up.refresh_from_db()
    assert (top_up.status, balance(payer)) == ("void", Decimal(25))
    assert checking.broken_invariants(now=now) == []


def test_a_refund_takes_it_out_of_the_wallet_and_a_failed_one_puts_it_back(
    simulator: Simulator, payer: Customer, now: datetime, deliver: Deliver
) -> None:
    automatic(payer, now=now)
    top_up = charging.charge_at_once(begin(payer, now=now), now=now)
    (charge,) = simulator.all("charge")
    answer = client.post(
        "/v1/refunds", params={"charge": charge["id"], "amount": 2_000}, key="refund"
    )
    assert answer.status == 200
    deliver()
    deliver()
    assert balance(payer) == Decimal(5)
    # Whoever gave money back does not take it again by itself.
    assert AutoTopUp.objects.get().suppressed_by == top_up
    assert topping_up.top_up_due(now=now, limit=10) == 0
    assert checking.broken_invariants(now=now) == []
    later = now + timedelta(hours=2)
    assert reconciling.compare(now - MINUTE, later, now=later).found == []


def test_a_held_customer_is_not_charged_until_released(
    simulator: Simulator, payer: Customer, now: datetime
) -> None:
    top_up = begin(payer, now=now)
    push_due(now=now, limit=10)
    hold_collection(payer.pk, reason="fraud", actor=ACTOR, now=now)
    automatic(payer, now=now)
    assert charging.charge_due(now=now, limit=10) == 0
    assert follow_holds(now=now, limit=10) == 0
    with pytest.raises(topping_up.TopUpRefused, match="until an operator"):
        begin(payer, now=now)
    release_collection(payer.pk, actor=ACTOR, now=now)
    assert follow_holds(now=now, limit=10) == 0
    assert charging.charge_due(now=now, limit=10) == 1
    top_up.refresh_from_db()
    assert (top_up.status, charges(simulator)) == ("paid", [2_500])


def test_a_top_up_is_never_paid_from_the_wallet_nor_credited(
    simulator: Simulator, payer: Customer, now: datetime
) -> None:
    crediting.top_up_wallet(payer.pk, amount=9_000, reference="wire", actor=ACTOR, now=now)
    top_up = begin(payer, now=now)
    with pytest.raises(Exception, match="Stripe collects"):
        drawing.draw_wallet(top_up.pk, actor=ACTOR, now=now)
    with pytest.raises(crediting.TopUpNotCredited):
        crediting.credit_note(top_up.pk, amount=1, reason="x", actor=ACTOR, now=now)
    assert balance(payer) == Decimal(90)
