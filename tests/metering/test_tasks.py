"""metering.tasks: every task of the beat does its one thing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.test import Client

from config.celery import BEAT, app
from metering import tasks
from metering.models import Balance, Denial, Fault, Hold, MonthlyRollup, Rollup
from tests.factories.metering import (
    make_customer,
    make_entitlement,
    make_meter,
    open_hold,
    report,
)

pytestmark = [pytest.mark.django_db, pytest.mark.traced]


def test_the_beat_knows_every_task() -> None:
    app.loader.import_default_modules()
    names = {name for name in app.tasks if name.startswith("metering.")}
    assert names == {name for name in BEAT if name.startswith("metering.")}


def test_work_that_waits_is_done() -> None:
    customer, meter, now = make_customer(), make_meter(), datetime.now(UTC)
    make_entitlement(customer, meter)
    report(customer, meter, 5, at=now)
    open_hold(customer, meter, 5, at=now - timedelta(hours=1))
    Denial.objects.create(
        customer_id=customer.id,
        id=UUID(int=1),
        code="not_in_plan",
        first_at=now - timedelta(days=40),
        last_at=now - timedelta(days=40),
        problem={},
    )
    report(customer, meter, 3, at=now - timedelta(days=40))
    old = open_hold(customer, meter, 5, at=now - timedelta(hours=1))
    assert tasks.roll_up() == 2
    assert tasks.roll_up_days() == 2  # a day, and the month made of it
    assert tasks.expire_holds() == 2
    tasks.make_partitions()
    assert tasks.forget_denials() == 1
    Hold.objects.filter(pk=old.pk).update(closed_at=now - timedelta(days=95))
    assert tasks.forget_holds() == 1
    assert tasks.forget_gateway_faults() == 0
    assert sorted(Rollup.objects.values_list("quantity", flat=True)) == [3, 5]
    assert MonthlyRollup.objects.get().quantity == 3
    assert Hold.objects.get().state == "expired"
    assert tasks.check_invariants() == 0


def test_a_broken_invariant_stands_in_the_metrics_until_it_is_mended() -> None:
    customer, meter, now = make_customer(), make_meter(), datetime.now(UTC)
    make_entitlement(customer, meter)
    report(customer, meter, 5, at=now)
    Balance.objects.update(used=7)
    for _ in range(2):
        assert tasks.check_invariants() == 1
        fault = Fault.objects.get()
        assert (fault.invariant, fault.subject) == ("I1", customer.public_id)
        assert "used 7, events 5" in str(fault)
    metric = 'farebox_faults{invariant="I1"} 1.0'
    assert metric in Client().get("/metrics").content.decode()
    Balance.objects.update(used=5)
    assert tasks.check_invariants() == 0
    assert not Fault.objects.exists()
    assert metric not in Client().get("/metrics").content.decode()
