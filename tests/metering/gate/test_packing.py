"""What the gate leaves out of a row is told by the view all the same."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from metering.gate.calls import Work
from metering.gate.parameters import parameters
from metering.gate.rows import EventRow, array, encode
from metering.gate.store import Store
from metering.models import EventOrigin, UsageEvent
from tests.metering.gate.client import dsn
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


# What JSON escapes otherwise than PostgreSQL, what both escape, and what looks like their syntax.
_ODD = [
    *('"', "\\", '\\"', "\n", "\\n", "\t\r\b\f\x01\x1f", "\x7f"),
    *("{}", "a,b", "null", " x ", "é€😀", ""),
]


@given(
    texts=st.lists(
        st.sampled_from(_ODD)
        | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
        | st.none(),
        max_size=5,
    )
)
def test_an_array_is_read_as_it_was(texts: list[str | None]) -> None:
    documents = [None if text is None else encode({"a": text}).decode() for text in texts]
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::text[], %s::text[]", [array(texts), array(documents)])
        assert cursor.fetchone() == (texts, documents)


def test_odd_texts_come_back_as_they_were_given(world: World) -> None:
    batch = [event(world, f"id {odd}", source=f"of {odd}", data={"k": odd}) for odd in _ODD]
    assert post(world.gate, *batch).body["accepted"] == len(_ODD)
    kept = UsageEvent.objects.values_list("external_id", "source", "properties")
    assert sorted(kept) == sorted((f"id {odd}", f"of {odd}", {"k": odd}) for odd in _ODD)


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


def test_an_origin_whose_transaction_came_to_nothing_is_written_again(world: World) -> None:
    now = datetime.now(UTC)

    async def write_twice() -> None:
        store = Store(dsn(), statement_timeout_ms=2_000)
        catalogue = await store.read_catalogue()
        (account,) = await store.read_accounts(ids=[world.customer.id], since=now)
        work = Work(account)
        origin = work.origin("api.call", None, None)
        work.events.append(
            EventRow(
                account.customer_id, uuid4().hex, "edge", "1", {}, fingerprint=0, origin_id=origin
            )
        )
        written = parameters(
            {account.customer_id: work},
            catalogue=catalogue.version,
            now=now,
            apart=timedelta(minutes=5),
        )
        with contextlib.suppress(ZeroDivisionError):
            async with store.locked(account.customer_id):
                assert (await store.write(*written))[1] == {account.customer_id}
                raise ZeroDivisionError
        assert (await store.write(*written))[1] == {account.customer_id}
        await store.close()

    asyncio.run(write_twice())
    assert UsageEvent.objects.get().type == "api.call"
