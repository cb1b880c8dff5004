"""Migration 0010: corrections that are there learn the month of their event."""

from __future__ import annotations

from datetime import date
from importlib import import_module

import pytest
from django.db import connection

from metering.models import Correction
from metering.operations.correcting import amend
from tests.factories.metering import NOW, make_customer, make_meter, report


@pytest.mark.django_db
def test_corrections_are_of_the_event_that_stood_then() -> None:
    customer, meter = make_customer(), make_meter()
    events = [report(customer, meter, n) for n in (1, 2)]
    for event in events:
        amend(
            customer.id, event_id=event.id, quantities={meter.id: 9}, reason="wrong",
            actor="opk_1", now=NOW,
        )  # fmt: skip
    Correction.objects.update(received_month=date(2000, 1, 1))
    Correction.objects.filter(event_id=events[1].id).update(occurred_at="2026-03-31T23:00:00Z")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM metering_usageevent WHERE id = %s", [events[1].id])
        cursor.execute(import_module("metering.migrations.0010_corrected_months").FILL)
    months = dict(Correction.objects.values_list("event_id", "received_month"))
    assert months == {events[0].id: events[0].received_month, events[1].id: date(2026, 3, 1)}
