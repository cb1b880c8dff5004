"""Migrations 0021, 0022: what waits learns its event's key and size; back, what went is dropped."""

from __future__ import annotations

from importlib import import_module
from uuid import UUID

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection

from metering.domain.counting import event_key
from metering.models import QuarantinedEvent
from tests.factories.metering import NOW, make_customer
from tests.factories.quarantine import quarantined

MIGRATION = import_module("metering.migrations.0021_fates_of_the_refused")
MEASURED = import_module("metering.migrations.0022_what_waits_is_measured")
pytestmark = pytest.mark.django_db
BEFORE = """
INSERT INTO metering_quarantinedevent (
    digest, customer_id, subject, source, external_id, type, occurred_at, properties, code,
    detail, gateway_id, first_at, last_at, times)
VALUES (%s, NULL, 'later', 'app', 'x', 'new.thing', NULL, '{}', 'meter_unknown', 'No meter.', NULL,
        now(), now(), 1)
"""


def test_what_waits_learns_under_which_key_it_is_counted() -> None:
    row = quarantined(source="ä", external_id="x", event_id=None, size=0)
    MEASURED.measure(apps, None)
    row.refresh_from_db()
    assert row.event_id == event_key("ä", "x")
    assert row.size == 200 + len('{"model": "m-1", "tokens": 5}' + "later" + "ä_" + "x") + len(
        "new.thing" + "No meter counts it."
    )


def test_it_goes_piece_by_piece_and_goes_on_where_it_was_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MEASURED, "PIECE", 2)
    done = quarantined(1, size=7)
    went = quarantined(2, digest=None, state="counted", customer=make_customer(), closed_at=NOW)
    QuarantinedEvent.objects.filter(id=went.id).update(size=0)
    rows = [quarantined(number, event_id=None, size=0) for number in range(3, 8)]
    named = quarantined(8, size=0)  # by a run that was cut off
    for _ in range(2):
        MEASURED.measure(apps, None)
        kept = QuarantinedEvent.objects.in_bulk()
        assert (kept[done.id].size, kept[went.id].size) == (7, 0)
        for row in (*rows, named):
            assert kept[row.id].event_id == event_key(row.source, row.external_id)
            assert kept[row.id].size > 200


def test_back_it_has_no_room_for_what_went_and_what_was_not_translated() -> None:
    waits = quarantined()
    quarantined(2, digest=None, state="counted", customer=make_customer(), closed_at=NOW)
    quarantined(3, shape="lago")
    MIGRATION.forget_what_went(apps, None)
    assert list(QuarantinedEvent.objects.values_list("id", flat=True)) == [waits.id]


def test_a_gate_of_the_version_before_goes_on_keeping_what_it_refuses() -> None:
    with connection.cursor() as cursor:
        cursor.execute(BEFORE, [UUID(int=1)])
    row = QuarantinedEvent.objects.get()
    assert (row.state, row.shape, row.options, row.size) == ("waiting", "", {}, 0)


@pytest.mark.django_db(transaction=True)
def test_an_index_that_was_left_half_made_is_made_anew() -> None:
    call_command("migrate", "metering", "0021", verbosity=0)
    try:
        with connection.cursor() as cursor:
            cursor.execute("CREATE INDEX quarantined_waiting ON metering_quarantinedevent (code)")
            cursor.execute(BEFORE, [UUID(int=1)])
    finally:
        call_command("migrate", "metering", verbosity=0)
    assert QuarantinedEvent.objects.get().size > 200
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_indexdef('quarantined_waiting'::regclass)")
        assert "(code, size)" in cursor.fetchone()[0]
