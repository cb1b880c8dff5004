"""Workers that die anywhere leave one invoice at Stripe, right to the cent."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import stripe

from accounts.models import Customer
from billing.models import Invoice, StripeStep
from billing.payments import client
from billing.payments.pushing import LEASE, push_due
from billing.payments.simulator import Simulator
from tests.billing.payments.asserting import assert_one_right_invoice
from tests.billing.payments.workers import worker_environment
from tests.factories.accounts import a_customer
from tests.factories.payments import a_pending_invoice
from tests.factories.threads import at_once

ROOT = Path(__file__).resolve().parents[3]
AMOUNTS = tuple(range(1_000, 1_060))  # two chunks


class Killed(BaseException):
    """As the process would die: nothing of ours may catch it."""


class MortalClient(stripe.RequestsClient):
    """Dies at its n-th request, before the request is sent or after Stripe has executed it."""

    def __init__(self, *, dies_at: int, sent: bool) -> None:
        super().__init__(timeout=5)
        self._left = dies_at
        self._sent = sent

    def request(self, method: str, url: str, headers: Any, post_data: Any = None) -> Any:  # type: ignore[override]
        self._left -= 1
        if self._left > 0:
            return super().request(method, url, headers, post_data)
        if self._sent:
            super().request(method, url, headers, post_data)
        raise Killed


def live_until(monkeypatch: pytest.MonkeyPatch, *, dies_at: int, sent: bool, now: datetime) -> bool:
    """One life of a worker; whether it died of old age."""
    monkeypatch.setattr(client, "transport", lambda: MortalClient(dies_at=dies_at, sent=sent))
    client.forget()
    try:
        push_due(now=now, limit=10)
    except Killed:
        return False
    return True


@pytest.mark.django_db
@pytest.mark.parametrize("sent", [False, True], ids=["before", "after"])
def test_a_worker_may_die_at_any_call(
    simulator: Simulator, now: datetime, monkeypatch: pytest.MonkeyPatch, sent: bool
) -> None:
    mortal = monkeypatch
    for dies_at in range(1, 20):
        invoice = a_pending_invoice(a_customer(), amounts=AMOUNTS, now=now)
        survived = live_until(mortal, dies_at=dies_at, sent=sent, now=now)
        assert live_until(mortal, dies_at=99, sent=False, now=now + LEASE + timedelta(seconds=9))
        assert_one_right_invoice(simulator, invoice)
        if survived:
            break
    # customer, invoice, two chunks of lines, invoice and lines read, finalized
    assert dies_at == 8
    assert all(step.attempt == 1 for step in StripeStep.objects.all())


@pytest.mark.django_db
def test_workers_may_die_again_and_again(
    simulator: Simulator, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each life is three calls long and ends after the third was executed."""
    invoice = a_pending_invoice(a_customer(), amounts=AMOUNTS, now=now)
    lives = 1
    while not live_until(monkeypatch, dies_at=4, sent=True, now=now):
        lives += 1
        now += LEASE + timedelta(seconds=9)
        assert lives < 20
    assert lives > 2
    assert_one_right_invoice(simulator, invoice)


@pytest.mark.django_db(transaction=True)
def test_many_workers_make_one_invoice_each(
    simulator: Simulator, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where every lease is over before it began, so that all of them push the same."""
    monkeypatch.setattr("billing.payments.pushing.LEASE", timedelta(0))
    customer = a_customer()
    invoices = [a_pending_invoice(customer, now=now) for _ in range(3)]

    for round_number in range(20):
        later = now + timedelta(minutes=5 * round_number)
        at_once([lambda at=later: push_due(now=at, limit=6)] * 4)  # type: ignore[misc]
        if not Invoice.objects.filter(push=Invoice.Push.PENDING).exists():
            break

    for invoice in invoices:
        assert_one_right_invoice(simulator, invoice)
    assert len(simulator.all("invoice")) == 3
    assert len(simulator.all("customer")) == 1


PUSHING = """
import django
django.setup()
from datetime import UTC, datetime
from billing.payments.pushing import push_due
push_due(now=datetime.now(UTC), limit=10)
"""


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/v1/customers", "/v1/invoices", "/add_lines", "/finalize"])
def test_a_worker_is_killed_while_it_waits_for_stripe(
    simulator: Simulator, customer: Customer, now: datetime, path: str
) -> None:
    invoice = a_pending_invoice(customer, now=now)
    simulator.fault("slow", method="POST", path="*" + path, seconds=2)
    worker = subprocess.Popen(
        [sys.executable, "-c", PUSHING], cwd=ROOT, env=worker_environment(simulator.url)
    )
    try:
        _wait_until(lambda: worker.poll() is not None or _under_way(path))
    finally:
        worker.send_signal(signal.SIGKILL)
        assert worker.wait(timeout=10) == -signal.SIGKILL

    # Stripe is still at it: its answer to the same key is 409 until then.
    later = itertools.count(1)

    def pushed() -> bool:
        push_due(now=now + next(later) * timedelta(minutes=10), limit=10)
        invoice.refresh_from_db()
        return invoice.push == Invoice.Push.PUSHED

    _wait_until(pushed, every=0.2)
    assert_one_right_invoice(simulator, invoice)
    assert len(simulator.all("customer")) == 1


def _under_way(path: str) -> bool:
    sent = StripeStep.objects.filter(state="pending", sends=1)
    return any(step.request["path"].endswith(path) for step in sent)


def _wait_until(true: Callable[[], bool], *, every: float = 0.01) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(every)
