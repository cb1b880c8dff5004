"""Backfills applied by many workers at once, beside everybody else, and by workers that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import transaction

from accounts.models import Customer
from accounts.operations.versions import bump_catalogue
from metering.models import Backfill, Meter, StagedEvent, UsageEvent
from metering.operations.applying import apply_backfills
from metering.operations.backfilling import Supplied, close, open_backfill, revert, supply
from metering.operations.correcting import amend
from metering.operations.rolling_up import roll_up
from tests.factories.counted import books_of, happen
from tests.factories.metering import NOW, make_customer, make_entitlement, make_meter
from tests.factories.threads import at_once
from tests.metering.gate.client import dsn

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.proof]
ROOT = Path(__file__).resolve().parents[2]
START = NOW - timedelta(days=10)
PIECE, EVENTS = 3, 60
WORKING = f"""
import django
django.setup()
from datetime import datetime
from metering.operations.applying import apply_backfills
while True:
    apply_backfills(now=datetime.fromisoformat({NOW.isoformat()!r}), limit={PIECE}, pieces=1)
"""


@pytest.fixture
def meters(transactional_db: None) -> list[Meter]:
    """One of each kind, all of them of one type of event."""
    with transaction.atomic():
        bump_catalogue()
        return [
            make_meter(key=aggregation, aggregation=aggregation, event_type="call")
            for aggregation in ("sum", "max", "latest", "unique", "count")
        ]


@pytest.fixture
def customer(meters: list[Meter]) -> Customer:
    made = make_customer()
    for meter in meters:
        make_entitlement(made, meter)
    return made


def closed(customer: Customer, events: int) -> Backfill:
    made = open_backfill(
        mode=Backfill.Mode.REPLACE,
        event_type="call",
        customer_ids=[customer.id],
        start_at=START,
        end_at=NOW,
        reason="the gateway was down",
        actor="opk_1",
        now=NOW,
    )
    supplied = [
        Supplied(
            customer.id, "archive", f"old-{n}", START + timedelta(minutes=n), {"tokens": n % 7}
        )
        for n in range(events)
    ]
    supply(made.id, events=supplied)
    return close(made.id, actor="opk_1", now=NOW)


def finished() -> None:
    deadline = time.monotonic() + 60
    at_work = Backfill.objects.filter(status__in=["closing", "reverting"])
    while at_work.exists():
        apply_backfills(now=NOW, limit=PIECE, pieces=10)
        assert time.monotonic() < deadline


def test_workers_share_the_work_beside_calls_and_corrections(
    customer: Customer, meters: list[Meter]
) -> None:
    old = [happen(customer, *meters, at=START, tokens=n) for n in range(4)]
    mine = happen(customer, *meters, at=NOW, tokens=5)
    made = [closed(customer, EVENTS // 2), closed(make_customer(), EVENTS // 2)]

    def calls() -> None:
        for n in range(6):
            happen(customer, *meters, at=NOW, tokens=n)

    def corrections() -> None:
        for n in range(4):
            amend(
                customer.id,
                event_id=mine.id,
                properties={"tokens": n},
                reason="once more",
                actor="opk_1",
                now=NOW,
            )

    def worker() -> None:
        apply_backfills(now=NOW, limit=PIECE, pieces=30)

    def rolling() -> None:
        for _ in range(5):
            roll_up(limit=10)

    at_once([worker, worker, calls, corrections, rolling])
    finished()
    assert {each.status for each in Backfill.objects.all()} == {"closed"}
    found = books_of(customer, *meters)
    assert found["count"] == 6 + 1 + EVENTS // 2
    assert found["sum"] == sum(range(6)) + 3 + sum(n % 7 for n in range(EVENTS // 2))
    assert UsageEvent.objects.filter(source="archive").count() == EVENTS
    at_once([lambda: revert(made[0].id, actor="opk_1", now=NOW), worker, worker, calls])
    finished()
    assert books_of(customer, *meters)["count"] == 2 * 6 + 1 + len(old)


@pytest.mark.slow
def test_workers_are_killed_at_any_time(customer: Customer, meters: list[Meter]) -> None:
    for n in range(10):
        happen(customer, *meters, at=START, tokens=n)
    before = books_of(customer, *meters)
    made = closed(customer, EVENTS)
    _kill_workers(lambda: StagedEvent.objects.exclude(outcome="").count())
    finished()
    after = books_of(customer, *meters)
    assert (after["count"], after["sum"]) == (EVENTS, sum(n % 7 for n in range(EVENTS)))
    revert(made.id, actor="opk_1", now=NOW)
    _kill_workers(lambda: StagedEvent.objects.filter(outcome="undone").count())
    finished()
    assert books_of(customer, *meters) == before


def _kill_workers(progress: Callable[[], int]) -> None:
    """Let workers begin and kill each as soon as it has written something."""
    lives = 30 if os.environ.get("FAREBOX_TEST_PROFILE") == "thorough" else 3
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "FAREBOX_DATABASE_URL": dsn(),
    }
    for _ in range(lives):
        seen = progress()
        worker = subprocess.Popen([sys.executable, "-c", WORKING], cwd=ROOT, env=environment)
        try:
            deadline = time.monotonic() + 60
            while progress() == seen and seen < EVENTS:
                assert worker.poll() is None
                assert time.monotonic() < deadline
        finally:
            worker.send_signal(signal.SIGKILL)
            assert worker.wait(timeout=10) == -signal.SIGKILL
