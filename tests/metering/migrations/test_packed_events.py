"""Migrations 0013 and 0015: events are packed, say what they said, and are written like a table."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction

from metering.domain.counting import event_origin
from metering.models import EffectiveEvent, EventOrigin, UsageEvent
from metering.operations.correcting import amend
from tests.factories.metering import NOW, make_customer, make_meter, report
from tests.factories.threads import someone_waits_for_me

MIGRATION = import_module("metering.migrations.0013_packed_events")
IN_PLACE = import_module("metering.migrations.0015_updates_in_place")


def everything() -> list[list[dict[str, Any]]]:
    return [
        list(model.objects.order_by("customer_id", "id").values())
        for model in (UsageEvent, EffectiveEvent)
    ]


def partitions() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits"
            " WHERE inhparent = 'metering_usageevent'::regclass ORDER BY 1"
        )
        return [name for (name,) in cursor.fetchall()]


@pytest.mark.django_db
def test_events_that_are_there_say_what_they_said() -> None:
    customer, meter = make_customer(), make_meter()
    ids = [str(uuid4()), str(uuid4()).upper(), uuid4().hex, "a" * 36, "é", "--------" * 4 + "----"]
    events = [report(customer, meter, n, external_id=id_) for n, id_ in enumerate(ids)]
    events.append(report(make_customer(), meter, 7, properties={"model": "ü", "n": 1.5}))
    amend(
        customer.id, event_id=events[1].id, quantities={meter.id: 9}, reason="wrong",
        actor="opk_1", now=NOW,
    )  # fmt: skip
    whole = {"gateway_id": 1 << 40, "api_key_id": 3, "answer": "", "late": True, "from_hold": True}
    UsageEvent.objects.filter(id=events[2].id).update(**whole)
    before, months = everything(), partitions()
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(MIGRATION.BACKWARD)
        cursor.execute(MIGRATION.FORWARD)
    assert everything() == before
    assert set(partitions()) <= set(months)  # an empty month that is long over is not made again
    found = {each.external_id: each for each in UsageEvent.objects.filter(customer_id=customer.id)}
    assert found.keys() == set(ids)
    with connection.cursor() as cursor:
        cursor.execute("SELECT external_uuid::text FROM metering_usageevent ORDER BY 1 LIMIT 2")
        assert cursor.fetchall() == [(ids[0],), (None,)]


@pytest.mark.django_db
@pytest.mark.parametrize("written", [IN_PLACE.FORWARD, IN_PLACE.BACKWARD], ids=["0015", "0013"])
def test_the_view_of_events_is_written_like_a_table(written: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(written)
    customer, meter = make_customer(), make_meter()
    event = report(customer, meter, 1, at=datetime(2026, 4, 1, 23, 59, 59, tzinfo=UTC))
    assert event.hour == datetime(2026, 4, 1, 23, tzinfo=UTC)
    mine = UsageEvent.objects.filter(customer_id=customer.id)
    assert mine.update(type="other", external_id=str(uuid4()), occurred_at=NOW) == 1
    assert mine.get().type == "other"
    assert mine.get().hour <= NOW < mine.get().hour + timedelta(hours=1)
    for given in (("x", None, None), ("ü y", 1 << 40, None), ("", None, 7), ("z", 1, -2)):
        mine.update(type=given[0], gateway_id=given[1], api_key_id=given[2])
        origin = EventOrigin.objects.get(customer_id=customer.id, id=event_origin(*given))
        assert (origin.type, origin.gateway_id, origin.api_key_id) == given
    assert mine.delete()[0] == 1
    assert not mine.exists()


@pytest.mark.django_db(transaction=True)
def test_two_that_write_one_event_at_once_both_have_written() -> None:
    event = report(make_customer(), make_meter(), 1)
    mine = UsageEvent.objects.filter(id=event.id)

    def second() -> int:
        try:
            return mine.update(late=True)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as other:
        with transaction.atomic():
            assert mine.update(properties={"model": "a"}, type="renamed") == 1
            written = other.submit(second)
            while not someone_waits_for_me():
                assert not written.done()
        assert written.result(60) == 1
    assert mine.values_list("properties", "type", "late").get() == ({"model": "a"}, "renamed", True)
