"""What the gate leaves out of a row is told by the view all the same."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import connection

from metering.models import EventOrigin, UsageEvent
from tests.metering.gate.conftest import World
from tests.metering.gate.test_repeats import event, post

pytestmark = pytest.mark.django_db(transaction=True)


def test_every_id_comes_back_as_it_was_given(world: World) -> None:
    ids = [str(uuid4()), str(uuid4()).upper(), uuid4().hex, f"{{{uuid4()}}}", "x" * 36, "é"]
    batch = [event(world, id_) for id_ in ids]
    assert post(world.gate, *batch).body["accepted"] == len(ids)
    assert post(world.gate, *batch).body["duplicates"] == len(ids)
    assert set(UsageEvent.objects.values_list("external_id", flat=True)) == set(ids)
    with connection.cursor() as cursor:
        cursor.execute("SELECT external_uuid::text FROM metering_usageevent ORDER BY 1")
        assert cursor.fetchall() == [(ids[0],), *[(None,)] * (len(ids) - 1)]


def test_what_events_have_in_common_is_written_once_for_each_server(world: World) -> None:
    for id_ in ("1", "2"):
        assert post(world.gate, event(world, id_)).body["accepted"] == 1
    (origin,) = EventOrigin.objects.all()
    assert (origin.customer_id, origin.type) == (world.customer.id, "api.call")
    # As if another server had taken over that had not seen the last of this one.
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM metering_eventorigin")
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'farebox-gate'"
        )
    assert post(world.gate, event(world, "3")).body["accepted"] == 1
    assert [each.id for each in EventOrigin.objects.all()] == [origin.id]
    assert set(UsageEvent.objects.values_list("type", flat=True)) == {"api.call"}
