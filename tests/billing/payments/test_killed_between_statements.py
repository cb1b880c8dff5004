"""The crash test: a worker is killed with -9 before each statement, commit and call of its run.

Each customer's period is closed, issued, pushed and paid by a worker that dies at another boundary;
the next worker goes on. Afterwards everybody was invoiced and charged exactly once, to the cent, in
our books and in Stripe's. The quick test takes some of the boundaries; the long one, part of
`make prove`, takes every one of them, over 200 customers at least.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from accounts.models import Customer
from billing.domain.ledger import Account
from billing.domain.top_ups import AutoTopUpTerms
from billing.models import Invoice, PlanVersion, StripeStep, Wallet
from billing.operations import checking
from billing.operations.topping_up import set_auto_top_up
from billing.payments import client
from billing.payments.simulator import Simulator
from billing.queries.ledger import account_balance
from metering.models import Meter
from tests.billing.payments.workers import worker_environment
from tests.factories.accounts import a_customer
from tests.factories.billing import a_plan, a_subscription, calls
from tests.factories.metering import make_meter, report
from tests.factories.payments import give_card
from tests.factories.top_ups import subscribed

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.proof]
ROOT = Path(__file__).resolve().parents[3]
USED_AT = datetime.fromisoformat("2026-10-11T00:00Z")
CLOSED_AT = datetime.fromisoformat("2026-11-02T00:00Z")
# Longer than a lease, so that the next worker takes over what a dead one had taken.
LATER = timedelta(minutes=6)
FEE, INCLUDED = 2_000, 1_000


class Workers:
    """Lives of workers, one after the other; time goes on between them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._now = CLOSED_AT
        self.top_up = False  # what they do instead of closing and issuing

    def live(self, *, dies_at: int = 0) -> dict[str, Any]:
        self._now += LATER
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        wish = {"dies_at": dies_at, "now": self._now.isoformat(), "top_up": self.top_up}
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "failed" not in told
        return told

    def live_until_all_is_paid(self) -> None:
        for _ in range(10):
            self.live()
            if Invoice.objects.exists() and not Invoice.objects.exclude(status="paid").exists():
                return
        raise AssertionError(list(Invoice.objects.values_list("status", "push", "push_problem")))


@pytest.fixture
def workers(simulator: Simulator) -> Iterator[Workers]:
    command = [sys.executable, "-m", "tests.billing.payments.dying_worker"]
    environment = worker_environment(simulator.url)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes) as process:  # type: ignore[call-overload]
        yield Workers(process)
        process.stdin.close()


class Sold:
    """Customers whose October is over, each with another amount to pay."""

    def __init__(self) -> None:
        self._meter: Meter = make_meter()
        self._plan: PlanVersion = a_plan(calls(self._meter, included=INCLUDED), fee=FEE)
        self.owed: dict[int, int] = {}

    def one_more(self) -> Customer:
        customer = a_customer()
        give_card(customer, now=CLOSED_AT)
        a_subscription(self._plan, customer=customer, card=False)
        number = len(self.owed) + 1
        report(customer, self._meter, INCLUDED + number, at=USED_AT)
        self.owed[customer.pk] = FEE + number  # a cent for each unit past what is included
        return customer


def kill_at(workers: Workers, sold: Sold | Prepaid, boundaries: Iterator[int]) -> list[str]:
    """Let a worker die at each of the boundaries, on a customer of its own; before what it died."""
    died = []
    for dies_at in boundaries:
        sold.one_more()
        told = workers.live(dies_at=dies_at)
        if "died_before" in told:
            died.append(told["died_before"])
        workers.live_until_all_is_paid()
        if "met" in told:
            break
    return died


def assert_each_exactly_once(simulator: Simulator, sold: Sold) -> None:
    charged = [charge for charge in simulator.all("charge") if charge["paid"]]
    at_stripe = simulator.all("invoice")
    assert len(charged) == len(at_stripe) == Invoice.objects.count() == len(sold.owed)
    theirs = {each["metadata"]["farebox_invoice"]: each for each in at_stripe}
    for invoice in Invoice.objects.select_related("customer"):
        owed = sold.owed[invoice.customer_id]
        found = theirs[invoice.public_id]
        assert (invoice.status, invoice.total, invoice.amount_paid) == ("paid", owed, owed)
        assert (found["status"], found["total"], found["amount_paid"]) == ("paid", owed, owed)
        books = [
            account_balance(invoice.customer_id, account=account, currency="usd")
            for account in (Account.CASH, Account.RECEIVABLE, Account.REVENUE)
        ]
        assert books == [owed, 0, -owed]
    numbers = sorted(map(str, Invoice.objects.values_list("number", flat=True)))
    assert numbers == [f"INV-{place:06}" for place in range(1, len(numbers) + 1)]
    assert sum(charge["amount"] for charge in charged) == sum(sold.owed.values())
    assert checking.broken_invariants(now=CLOSED_AT) == []
    assert not StripeStep.objects.exclude(state="done").exists()


class Prepaid:
    """Customers whose wallets are empty, each to be topped up by another amount."""

    def __init__(self) -> None:
        self.owed: dict[int, int] = {}

    def one_more(self) -> Customer:
        customer = a_customer()
        give_card(customer, now=CLOSED_AT)
        subscribed(customer, now=CLOSED_AT)
        amount = FEE + len(self.owed) + 1
        terms = AutoTopUpTerms(threshold=500, amount=amount, monthly_cap=2 * amount)
        set_auto_top_up(customer.pk, terms=terms, actor="opk_test", now=CLOSED_AT)
        self.owed[customer.pk] = amount
        return customer


def assert_each_wallet_filled_once(simulator: Simulator, prepaid: Prepaid) -> None:
    charged = [charge["amount"] for charge in simulator.all("charge") if charge["paid"]]
    assert sorted(charged) == sorted(prepaid.owed.values())
    assert len(simulator.all("invoice")) == Invoice.objects.count() == len(prepaid.owed)
    for wallet in Wallet.objects.all():
        assert wallet.balance * 100 == prepaid.owed[wallet.customer_id]
    numbers = sorted(map(str, Invoice.objects.values_list("number", flat=True)))
    assert numbers == [f"TU-{place:06}" for place in range(1, len(numbers) + 1)]
    assert checking.broken_invariants(now=CLOSED_AT) == []
    assert not StripeStep.objects.exclude(state="done").exists()


@pytest.fixture
def sold(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Sold:
    monkeypatch.setattr(client, "TOTAL_PER_S", 10_000)
    monkeypatch.setattr(client, "ENDPOINT_PER_S", 10_000)
    client.forget()
    return Sold()


def test_workers_killed_at_some_boundaries_charge_everybody_once(
    simulator: Simulator, workers: Workers, sold: Sold
) -> None:
    sold.one_more()
    whole = len(workers.live()["met"])
    died = kill_at(workers, sold, iter(range(3, whole, whole // 6)))
    assert len(died) >= 6
    assert_each_exactly_once(simulator, sold)


def test_workers_killed_at_some_boundaries_fill_each_wallet_once(
    simulator: Simulator, workers: Workers, sold: Sold
) -> None:
    workers.top_up = True
    prepaid = Prepaid()
    prepaid.one_more()
    whole = len(workers.live()["met"])
    died = kill_at(workers, prepaid, iter(range(3, whole, whole // 6)))
    assert len(died) >= 6
    assert_each_wallet_filled_once(simulator, prepaid)


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.skipif(
    os.environ.get("FAREBOX_TEST_PROFILE") != "thorough", reason="minutes long: `make prove`"
)
def test_workers_killed_at_every_boundary_fill_each_wallet_once(
    simulator: Simulator, workers: Workers, sold: Sold
) -> None:
    workers.top_up = True
    prepaid = Prepaid()
    prepaid.one_more()
    met = workers.live()["met"]
    died = kill_at(workers, prepaid, itertools.count(1))
    assert set(died) >= set(met)
    assert_each_wallet_filled_once(simulator, prepaid)


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.skipif(
    os.environ.get("FAREBOX_TEST_PROFILE") != "thorough", reason="minutes long: `make prove`"
)
def test_workers_killed_at_every_boundary_charge_200_once(
    simulator: Simulator, workers: Workers, sold: Sold
) -> None:
    sold.one_more()
    met = workers.live()["met"]
    died = kill_at(workers, sold, itertools.count(1))
    assert set(died) >= set(met)
    while len(sold.owed) < 200:
        kill_at(workers, sold, itertools.islice(itertools.count(1), 200 - len(sold.owed)))
    assert_each_exactly_once(simulator, sold)
