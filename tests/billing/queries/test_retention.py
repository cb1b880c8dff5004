"""billing.queries.retention: events stay as long as an invoice may be rated from them."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django import Settings

from billing import tasks
from billing.domain.plan_changes import ChangeWhen
from billing.models import Override, Subscription
from billing.operations import closing, overriding
from billing.operations.changing import change_plan
from billing.queries.retention import events_needed_from
from metering.domain.retention import LONGEST
from metering.models import RetiredMonth
from tests.factories.billing import ACTOR, CENT_EACH, START, a_plan, a_subscription, bill, calls
from tests.factories.metering import make_customer, make_meter
from tests.factories.usage import count_on

pytestmark = pytest.mark.django_db
AROUND = LONGEST["month"]  # the window around the beginning


def test_without_subscriptions_only_the_window_that_lasts() -> None:
    assert events_needed_from(now=START) == START - AROUND


def test_the_current_period_of_whoever_began_first() -> None:
    a_subscription()
    assert events_needed_from(now=START + timedelta(days=20)) == START - AROUND
    later = START + timedelta(days=5)
    a_subscription(start_at=later, now=later)
    assert events_needed_from(now=START + timedelta(days=20)) == START - AROUND


def test_a_period_counts_from_where_its_fee_is_shared_out_from() -> None:
    later = START + timedelta(days=9)
    a_subscription(a_plan(interval="year"), start_at=later, now=later, anchor="calendar")
    assert events_needed_from(now=START + timedelta(days=20)) == datetime(
        2026, 1, 1, tzinfo=UTC
    ) - AROUND  # fmt: skip


def test_a_draft_and_what_late_events_may_adjust() -> None:
    subscription = a_subscription(a_plan(calls(make_meter())))
    at = START
    for month in (11, 12, 13, 14, 15, 16):
        at = datetime(2026 + (month - 1) // 12, (month - 1) % 12 + 1, 1, 2, tzinfo=UTC)
        bill(subscription, now=at)
    # In April events from December 31 on may come: January's invoice and those since then.
    expected = datetime(2026, 12, 1, tzinfo=UTC)
    assert events_needed_from(now=at) == expected - AROUND
    Subscription.objects.update(status="canceled")
    assert events_needed_from(now=at + timedelta(days=200)) == at + timedelta(days=200) - AROUND


def test_grants_on_a_lifetime_are_read_from_its_beginning() -> None:
    subscription = a_subscription(a_plan(calls(make_meter(), window="lifetime")))
    bill(subscription, now=datetime(2026, 11, 1, 2, tzinfo=UTC))
    bill(subscription, now=datetime(2027, 11, 1, 2, tzinfo=UTC))
    assert events_needed_from(now=datetime(2028, 11, 1, 2, tzinfo=UTC)) == START - AROUND


def test_what_the_next_invoice_of_a_long_period_may_adjust() -> None:
    """The yearly invoice looks back from where its year begins, not from today."""
    subscription = a_subscription(a_plan(calls(make_meter()), key="monthly"))
    bill(subscription, now=datetime(2026, 11, 1, 2, tzinfo=UTC))
    a_plan(calls(make_meter()), key="yearly", interval="year")
    at = datetime(2026, 11, 2, tzinfo=UTC)
    change_plan(subscription.id, plan="yearly", when=ChangeWhen.NOW, actor=ACTOR, now=at)
    bill(subscription, now=at + timedelta(days=2))
    # What came late for October is on the invoice of the year, in November 2027.
    assert events_needed_from(now=datetime(2027, 10, 20, tzinfo=UTC)) == START - AROUND


def test_a_draft_that_waits_is_counted_back_from() -> None:
    subscription = a_subscription(a_plan(calls(make_meter())))
    bill(subscription, now=datetime(2026, 11, 1, 2, tzinfo=UTC))
    closing.close_due(now=datetime(2026, 12, 1, 2, tzinfo=UTC), limit=10)
    Subscription.objects.update(status="canceled")
    assert events_needed_from(now=datetime(2027, 9, 1, tzinfo=UTC)) == START - AROUND


def test_a_lifetime_that_was_agreed_or_is_left_counts_too() -> None:
    meter, far = make_meter(), datetime(2028, 11, 1, 2, tzinfo=UTC)
    subscription = a_subscription(a_plan({"feature": "sso", "type": "boolean"}))
    terms = calls(meter, window="lifetime")
    terms.pop("type")
    overriding.override(subscription.customer_id, terms=terms, actor=ACTOR, now=START)
    bill(subscription, now=far)
    assert events_needed_from(now=far) == START - AROUND
    Override.objects.all().delete()
    assert events_needed_from(now=far) > START + timedelta(days=365)


def test_a_lifetime_that_was_agreed_to_be_billed_counts_too() -> None:
    meter, far = make_meter(), datetime(2028, 11, 1, 2, tzinfo=UTC)
    subscription = a_subscription(a_plan(calls(meter, window="lifetime", price=None)))
    terms = {"meter": meter.key, "over": "bill", "price": CENT_EACH}
    overriding.override(subscription.customer_id, terms=terms, actor=ACTOR, now=START)
    bill(subscription, now=far)
    assert events_needed_from(now=far) == START - AROUND


def test_a_lifetime_of_an_earlier_phase_and_of_a_draft_counts() -> None:
    subscription = a_subscription(a_plan(calls(make_meter(), window="lifetime")))
    a_plan(key="other", fee=9_000)
    at = datetime(2027, 10, 10, tzinfo=UTC)
    closing.close_due(now=at, limit=100)
    bill(subscription, now=at)
    change_plan(subscription.id, plan="other", when=ChangeWhen.NOW, actor=ACTOR, now=at)
    assert events_needed_from(now=at) == START - AROUND
    closing.close_due(now=datetime(2027, 11, 1, 2, tzinfo=UTC), limit=100)
    Subscription.objects.update(status="canceled")
    assert events_needed_from(now=at + timedelta(days=400)) == START - AROUND


def _old_month() -> None:
    month = datetime(2025, 1, 1, tzinfo=UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT metering_make_partition(%s)", [month.date()])
    count_on(make_customer(), make_meter(), 5, at=month, received_month=month.date())


@pytest.mark.traced
def test_the_task_drops_nothing_unless_it_is_wanted(settings: Settings, tmp_path: Path) -> None:
    _old_month()
    tasks.retire_events()
    settings.EVENTS_KEPT_MONTHS = 6
    tasks.retire_events()
    assert not RetiredMonth.objects.exists()
    settings.EXPORT_FOLDER = str(tmp_path)
    tasks.retire_events()
    assert RetiredMonth.objects.get().dropped_at is not None
    assert (tmp_path / "usageevents-2025-01" / "part-00001.jsonl.gz").exists()


def test_the_command_says_what_it_would_do_before_it_does(tmp_path: Path) -> None:
    _old_month()
    said = io.StringIO()
    with pytest.raises(CommandError, match="All months are kept"):
        call_command("retire_events", stdout=said)
    call_command("retire_events", "--months", "6", stdout=said)
    assert "may go: 2025-01" in said.getvalue()
    with pytest.raises(CommandError, match="where the files go"):
        call_command("retire_events", "--months", "6", "--apply", stdout=said)
    assert not RetiredMonth.objects.exists()
    with pytest.raises(CommandError):
        call_command(
            "retire_events", "--months", "6", "--apply", "--folder", "/proc/none", stdout=said
        )
    RetiredMonth.objects.all().delete()
    for _ in range(2):
        call_command(
            "retire_events", "--months", "6", "--apply", "--folder", str(tmp_path), stdout=said
        )
    assert "2025-01: dropped" in said.getvalue()
    assert said.getvalue().endswith("nothing to do\n")
