"""Migration 0009: what a check charged is told from what was reported afterwards too."""

from __future__ import annotations

from importlib import import_module

import pytest
from django.db import connection

from metering.models import UsageEvent
from tests.factories.metering import make_customer, make_meter, report


@pytest.mark.django_db
def test_that_there_was_an_answer_is_kept() -> None:
    customer, meter = make_customer(), make_meter()
    charged, reported = report(customer, meter, 1), report(customer, meter, 2)
    migration = import_module("metering.migrations.0009_kept_answers")
    packed = import_module("metering.migrations.0013_packed_events")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(packed.BACKWARD)
        cursor.execute(migration.BACKWARD)
        cursor.execute(
            "UPDATE metering_usageevent SET answer = '{}' WHERE id = %s", [charged.id]
        )
        cursor.execute(migration.FORWARD)
        cursor.execute(packed.FORWARD)
    answers = dict(UsageEvent.objects.values_list("id", "answer"))
    assert answers == {charged.id: "", reported.id: None}
