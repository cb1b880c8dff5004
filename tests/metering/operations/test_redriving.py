"""metering.operations.redriving: refused events are counted once what was wrong is mended."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.db.models import QuerySet

from accounts.models import AuditEntry, Customer
from metering.domain.counting import TimeBounds, event_key, fingerprint
from metering.models import (
    Balance,
    Entitlement,
    Meter,
    QuarantinedEvent,
    RetiredMonth,
    UsageBatch,
    UsageEvent,
)
from metering.operations import redriving
from metering.operations.redriving import Redriven
from tests.factories.metering import (
    NOW,
    make_customer,
    make_entitlement,
    make_meter,
    open_hold,
    report,
)
from tests.factories.quarantine import EARLIER, quarantined
from tests.metering.gate.client import dsn

pytestmark = pytest.mark.django_db
BOUNDS = TimeBounds(max_age=timedelta(days=90), max_ahead=timedelta(minutes=5))


@pytest.fixture
def customer() -> Customer:
    return make_customer(external_id="later")


def redrive(**fields: Any) -> Redriven:
    given: dict[str, Any] = {"limit": 100, "bounds": BOUNDS, "actor": "mem_1", "now": NOW}
    return redriving.redrive(**{**given, **fields})


def meter_for(customer: Customer, **fields: Any) -> Meter:
    meter = make_meter(event_type="new.thing", **fields)
    make_entitlement(customer, meter)
    return meter


def waiting() -> QuerySet[QuarantinedEvent]:
    return QuarantinedEvent.objects.filter(state="waiting")


def used(meter: Meter) -> int:
    return sum(Balance.objects.filter(meter=meter).values_list("used", flat=True))


def test_an_event_counts_once_its_meter_is_made(customer: Customer) -> None:
    row = quarantined(gateway_id=7)
    assert redrive() == Redriven(refused=1)
    assert not UsageEvent.objects.exists()

    meter = meter_for(customer, dimensions=["model"])
    later = NOW + timedelta(minutes=1)
    assert redrive(now=later) == Redriven(counted=1)

    event = UsageEvent.objects.get()
    assert (event.id, event.external_id) == (event_key("app", "event-1"), "event-1")
    assert event.fingerprint == fingerprint("new.thing", row.properties)
    assert (event.occurred_at, event.received_at) == (EARLIER, later)
    assert (event.usage, event.properties, event.gateway_id) == (
        {str(meter.id): 5},
        row.properties,
        7,
    )
    assert used(meter) == 5
    hour = int(EARLIER.replace(minute=0).timestamp())
    assert UsageBatch.objects.get().deltas == [
        [customer.id, meter.id, hour, {"model": "m-1"}, 5, 1]
    ]
    assert not waiting().exists()
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.changes) == (
        "quarantine.redrive",
        {"counted": 1, "duplicates": 0},
    )
    assert redrive(now=later) == Redriven()
    assert used(meter) == 5


def test_what_happened_when_it_was_reported_keeps_its_time(customer: Customer) -> None:
    meter = meter_for(customer, aggregation="count")
    then = NOW - timedelta(days=40)
    quarantined(occurred_at=then)
    assert redrive() == Redriven(counted=1)
    assert UsageEvent.objects.get().occurred_at == then
    row = Balance.objects.get(meter=meter)
    assert row.start_at <= then < row.end_at


def test_the_customer_of_a_key_is_known_without_it(customer: Customer) -> None:
    meter = meter_for(customer)
    quarantined(subject="", customer=customer)
    assert redrive() == Redriven(counted=1)
    assert used(meter) == 5


def test_names_of_opentelemetry_count_here_too(customer: Customer) -> None:
    meter = meter_for(customer, value_property="total_tokens")
    quarantined(properties={"gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 1})
    assert redrive() == Redriven(counted=1)
    assert used(meter) == 8


def test_an_event_without_properties_keeps_none(customer: Customer) -> None:
    meter = meter_for(customer, aggregation="count")
    quarantined(properties={})
    assert redrive() == Redriven(counted=1)
    assert UsageEvent.objects.get().properties is None
    assert used(meter) == 1


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"subject": "nobody"}, "customer_unknown"),
        ({"type": "old.thing"}, "meter_unknown"),
        ({"properties": {"tokens": "many"}}, "quantity_invalid"),
        ({"occurred_at": NOW + timedelta(minutes=6)}, "time_out_of_range"),
        ({"occurred_at": EARLIER - timedelta(days=91)}, "time_out_of_range"),
    ],
)
def test_what_is_still_wrong_stays_with_its_new_reason(
    customer: Customer, fields: dict[str, Any], code: str
) -> None:
    meter = meter_for(customer)
    version = customer.version_row.version
    row = quarantined(**fields, code="other", detail="other")

    assert redrive() == Redriven(refused=1)

    row.refresh_from_db()
    assert row.code == code
    assert row.detail.endswith(".")
    assert (row.first_at, row.last_at, row.times) == (EARLIER, NOW, 1)
    assert not UsageEvent.objects.exists()
    assert not UsageBatch.objects.exists()
    assert not AuditEntry.objects.exists()
    assert used(meter) == 0
    customer.version_row.refresh_from_db()
    assert customer.version_row.version == version


def test_an_archived_meter_counts_nothing(customer: Customer) -> None:
    meter_for(customer, archived_at=NOW)
    row = quarantined()
    assert redrive() == Redriven(refused=1)
    row.refresh_from_db()
    assert row.code == "meter_unknown"


def test_one_that_fails_touches_no_other(customer: Customer) -> None:
    meter = meter_for(customer)
    quarantined(1)
    quarantined(2, properties={})
    quarantined(3)
    assert redrive() == Redriven(counted=2, refused=1)
    assert used(meter) == 10
    assert [row.external_id for row in waiting()] == ["event-2"]


def test_what_was_counted_meanwhile_is_a_duplicate(customer: Customer) -> None:
    meter = meter_for(customer)
    quarantined()
    assert redrive() == Redriven(counted=1)
    quarantined()
    assert redrive() == Redriven(duplicates=1)
    assert used(meter) == 5
    assert not waiting().exists()


def test_an_id_that_was_used_otherwise_is_refused(customer: Customer) -> None:
    meter = meter_for(customer)
    event = report(customer, meter, 9)
    hold = open_hold(customer, meter, 9)
    for number, used_id in enumerate((event.id, hold.id), 1):
        quarantined(number)
        with connection.cursor() as cursor:
            table = "metering_usageevent" if number == 1 else "metering_hold"
            cursor.execute(
                f"UPDATE {table} SET id = %s WHERE id = %s",
                [event_key("app", f"event-{number}"), used_id],
            )
    assert redrive() == Redriven(refused=2)
    assert {row.code for row in waiting()} == {"id_reused"}
    assert used(meter) == 9


@pytest.mark.parametrize("aggregation", ["sum", "max"])
def test_what_is_counted_from_dropped_events_stays(customer: Customer, aggregation: str) -> None:
    meter = meter_for(customer, aggregation=aggregation)
    happened = EARLIER - timedelta(days=40)
    Entitlement.objects.update(anchor_at=happened.replace(minute=41), starts_at=happened)
    quarantined(1, occurred_at=happened)
    quarantined(2)
    RetiredMonth.objects.create(month=happened.date().replace(day=1), detached_at=NOW)
    assert redrive() == Redriven(counted=1, refused=1)
    assert waiting().get().code == "events_gone"
    assert used(meter) == 5


@pytest.mark.parametrize("code", ["22P05", "23514"])
def test_what_the_database_refuses_stays(customer: Customer, code: str) -> None:
    meter = meter_for(customer)
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION USING errcode = '{code}', message = 'no', "
            "detail = 'Failing row contains (a secret)'; END $$"
        )
        cursor.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON metering_usagebatch "
            "FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse()"
        )
    row = quarantined()
    assert redrive() == Redriven(refused=1)
    row.refresh_from_db()
    assert (row.code, row.detail) == ("internal_error", "The database does not take it.")
    assert not UsageEvent.objects.exists()
    assert used(meter) == 0


def test_only_the_chosen_and_only_so_many_the_longest_waiting_first(customer: Customer) -> None:
    meter_for(customer)
    rows = [
        quarantined(number, last_at=EARLIER - timedelta(minutes=number)) for number in range(1, 6)
    ]
    assert redrive(limit=2) == Redriven(counted=2)
    assert set(waiting().values_list("id", flat=True)) == {row.id for row in rows[:3]}
    assert redrive(event_ids=[rows[0].id, rows[4].id]) == Redriven(counted=1)
    assert waiting().count() == 2


def test_each_is_tried_once_in_a_run(customer: Customer) -> None:
    quarantined()
    assert redrive() == Redriven(refused=1)
    assert redrive() == Redriven()


def test_what_waited_too_long_is_forgotten() -> None:
    quarantined(1, first_at=NOW - timedelta(days=31))
    quarantined(2)
    kept_for: dict[str, Any] = {"kept": timedelta(days=30), "now": NOW}
    assert redriving.forget_quarantined(**kept_for) == 1
    assert redriving.forget_quarantined(**kept_for) == 0
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.changes) == (
        "system",
        "quarantine.forget",
        {"events": 1},
    )
    QuarantinedEvent.objects.update(
        state="counted", digest=None, customer=make_customer(), closed_at=NOW, first_at=EARLIER
    )
    assert redriving.forget_quarantined(now=NOW, kept=timedelta(0)) == 1
    assert AuditEntry.objects.count() == 1  # one that was counted is no loss


def test_what_came_of_a_customer_while_it_was_erased_is_forgotten(customer: Customer) -> None:
    quarantined(1, subject="", customer=customer)
    quarantined(2, customer=customer, digest=None, state="counted", closed_at=NOW)
    left = [quarantined(3, customer=make_customer()), quarantined(4)]
    Customer.objects.filter(id=customer.id).update(erased_at=NOW)
    assert redriving.forget_quarantined(now=NOW, kept=timedelta(days=30)) == 2
    assert list(QuarantinedEvent.objects.order_by("id")) == left
    assert AuditEntry.objects.get().changes == {"events": 1}


def test_years_before_the_first_time_are_no_surprise(customer: Customer) -> None:
    meter_for(customer)
    quarantined(occurred_at=datetime.min.replace(tzinfo=NOW.tzinfo))
    assert redrive() == Redriven(refused=1)


@pytest.mark.django_db(transaction=True)
def test_what_another_is_trying_at_this_moment_is_left_to_it() -> None:
    customer = make_customer(external_id="later")
    meter = meter_for(customer)
    row = quarantined(1)
    quarantined(2)
    with psycopg.connect(dsn()) as other:
        other.execute("SELECT FROM metering_quarantinedevent WHERE id = %s FOR UPDATE", [row.id])
        assert redrive() == Redriven(counted=1)
    assert redrive() == Redriven(counted=1)
    assert used(meter) == 10


def test_whoever_was_erased_is_nobody(customer: Customer) -> None:
    meter = meter_for(customer)
    Customer.objects.filter(id=customer.id).update(erased_at=NOW)
    quarantined(subject=customer.public_id)
    quarantined(2, subject="", customer_id=customer.id)
    assert redrive() == Redriven(refused=2)
    assert set(QuarantinedEvent.objects.values_list("code", flat=True)) == {"customer_unknown"}
    assert (used(meter), UsageEvent.objects.exists()) == (0, False)
