"""Whatever is repeated, whenever and by how many at once, is counted once."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.domain.retention import DEDUPE_MONTHS, horizon
from metering.domain.windows import add_months
from metering.models import UsageEvent
from metering.operations.rolling_up import roll_up
from tests.metering.gate.books import broken
from tests.metering.gate.client import GateProcess, Got
from tests.metering.gate.conftest import World

pytestmark = pytest.mark.django_db(transaction=True)


def event(world: World, id_: str, **fields: Any) -> dict[str, Any]:
    given = {"id": id_, "source": "app", "type": "api.call", "subject": world.customer.public_id}
    return {**given, **fields}


def post(gate: GateProcess, *events: Any) -> Got:
    return gate.send("POST", "/api/v1/events", list(events))


def test_a_retry_with_another_time_stamp_is_the_same_event(world: World) -> None:
    now = datetime.now(UTC)
    for days in (None, 0, 1, 35, 80):
        stamp = {} if days is None else {"time": (now - timedelta(days=days)).isoformat()}
        post(world.gate, event(world, "1", **stamp))
    assert world.balance(world.calls) == (1, 0)
    assert UsageEvent.objects.count() == 1


def test_a_whole_batch_again_in_another_order_and_by_another_gate(world: World) -> None:
    batch = [event(world, f"e{n}") for n in range(50)]
    other = GateProcess()
    other.key = world.gate.key
    try:
        assert post(world.gate, *batch).body["accepted"] == 50
        assert post(other, *reversed(batch)).body["duplicates"] == 50
    finally:
        other.stop()
    assert world.balance(world.calls) == (50, 0)


def test_batches_that_overlap_at_the_same_moment_in_two_processes(world: World) -> None:
    other = GateProcess()
    other.key = world.gate.key
    ready = threading.Barrier(4)
    answers: list[Got] = []

    def report(gate: GateProcess, first: int) -> None:
        ready.wait()
        answers.append(post(gate, *(event(world, f"e{n}") for n in range(first, first + 40))))

    threads = [
        threading.Thread(target=report, args=(gate, first))
        for gate, first in ((world.gate, 0), (other, 20), (world.gate, 20), (other, 0))
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        other.stop()

    assert [each.status for each in answers] == [200] * 4
    assert sum(each.body["accepted"] for each in answers) == 60
    assert sum(each.body["duplicates"] for each in answers) == 100
    assert world.balance(world.calls) == (60, 0)


def test_an_event_received_in_an_earlier_month_is_recognised(world: World) -> None:
    post(world.gate, event(world, "1"))
    oldest = horizon(datetime.now(UTC).date())
    with connection.cursor() as cursor:
        cursor.execute("SELECT metering_make_partition(%s)", [oldest])
        cursor.execute("UPDATE metering_usageevent SET received_month = %s", [oldest])
    assert post(world.gate, event(world, "1")).body["duplicates"] == 1
    assert world.balance(world.calls) == (1, 0)


def test_the_months_looked_back_at_are_31_days_at_least() -> None:
    assert DEDUPE_MONTHS == 2
    day = datetime(2024, 1, 1, tzinfo=UTC).date()
    for _ in range(4 * 366):
        assert (day - horizon(day)).days >= 59
        day += timedelta(days=1)


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (290, None),
        (310, "time_out_of_range"),
        (-89 * 86_400, None),
        (-90 * 86_400 - 60, "time_out_of_range"),
    ],
)
def test_time_stamps_ahead_and_behind(world: World, seconds: int, code: str | None) -> None:
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    got = post(world.gate, event(world, "1", time=at.isoformat()))
    assert [each["code"] for each in got.body["rejected"]] == ([code] if code else [])
    assert world.balance(world.calls) == (0 if code else 1, 0)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)
members = st.sampled_from(
    ["id", "source", "type", "subject", "time", "data", "specversion", "event", "events",
     "litellm_call_id", "metadata", "request_id", "application", "customer", "transaction_id"]
)  # fmt: skip
PATHS = (
    "/api/v1/events", "/api/v1/events/batch", "/api/v1/ingest/litellm", "/api/v1/ingest/apipark",
    "/api/v1/ingest/access-log",
)  # fmt: skip


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(
    st.sampled_from(PATHS),
    st.binary(max_size=60)
    | st.dictionaries(members, json_values, max_size=5)
    | st.lists(st.dictionaries(members, json_values, max_size=5) | json_values, max_size=4),
)
def test_no_body_at_all_is_a_fault_of_ours(world: World, path: str, body: Any) -> None:
    before = UsageEvent.objects.count()
    got = world.gate.send("POST", path, body)
    assert got.status in (200, 400, 403, 413, 415, 422), got
    accepted = got.body["accepted"] if got.status == 200 else 0
    assert UsageEvent.objects.count() == before + accepted
    if got.status == 200:
        assert "internal_error" not in {each["code"] for each in got.body["rejected"]}


@pytest.mark.parametrize("first", [0, 1])
def test_a_clock_that_jumps_over_the_end_of_a_month_counts_nothing_twice(
    world: World, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """Ahead and back again, or back and ahead: an id is known in the months on both sides.

    By more than clocks may be apart (test_clocks.py), for it is not the end of a month now.
    """
    gate = GateProcess(clocks_apart=timedelta(days=40))
    gate.key, world.gate = world.gate.key, gate
    now = datetime.now(UTC)
    times = [now, add_months(now.replace(day=1, hour=0, minute=0), 1) + timedelta(seconds=1)]

    class Clock(datetime):
        """The clock of the gate's process."""

        at = times[0]

        @classmethod
        def now(cls, tz: Any = None) -> Any:  # noqa: ARG003
            return cls.at

    for module in ("engine", "app"):
        monkeypatch.setattr(f"metering.gate.{module}.datetime", Clock)
    told = []
    for place in (first, 1 - first, first):
        Clock.at = times[place]
        reported = post(world.gate, event(world, "e1"), event(world, "e2")).body
        checked = world.check(mode="consume", id="c1")
        told.append((reported["accepted"], reported["duplicates"], checked.status))
    gate.stop()
    assert told == [(2, 0, 200), (0, 2, 200), (0, 2, 200)]
    assert UsageEvent.objects.count() == 3
    assert world.balance(world.calls) == (3, 0)
    assert broken(world.customer.id) == []
    roll_up(limit=10)
    assert broken(world.customer.id) == []
