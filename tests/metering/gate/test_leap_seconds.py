"""Usage of a leap second is counted in the month that it ends, in whatever way it is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from metering.models import UsageEvent
from tests.metering.gate.client import Got
from tests.metering.gate.conftest import World

pytestmark = pytest.mark.django_db(transaction=True)
THIS_MONTH = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
LAST = THIS_MONTH - timedelta(microseconds=1)
LEAP = f"{LAST:%Y-%m-%d}T23:59:60Z"


def event(world: World, **fields: Any) -> dict[str, Any]:
    said = {"specversion": "1.0", "id": "e1", "source": "s", "type": "api.call"}
    return {**said, "subject": world.customer.public_id, "time": LEAP, **fields}


def post(world: World, body: Any, **headers: str) -> Got:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return world.gate.send("POST", "/api/v1/events", body, headers=named)


def binary(world: World) -> Got:
    said = {f"ce_{name}": value for name, value in event(world).items()}
    return post(world, b"{}", **said)


@pytest.mark.parametrize(
    "way",
    [
        lambda world: post(world, event(world)),
        lambda world: post(world, [event(world)]),
        lambda world: post(world, event(world), content_type="application/cloudevents+json"),
        binary,
        lambda world: post(world, event(world, time=f"{THIS_MONTH:%Y-%m-%d}t01:29:60.5+01:30")),
    ],
    ids=["plain", "batch", "structured", "binary", "offset"],
)
def test_an_event(world: World, way: Any) -> None:
    got = way(world)
    assert (got.status, got.body["accepted"]) == (200, 1), got
    assert UsageEvent.objects.get().occurred_at == LAST


def test_one_of_many(world: World) -> None:
    others = [event(world, id=f"o{number}", time=LAST.isoformat()) for number in range(3)]
    got = post(world, [*others, event(world), event(world, id="w", time=LEAP[:-2] + "1Z")])
    assert (got.body["accepted"], [each["index"] for each in got.body["rejected"]]) == (4, [4])
    assert set(UsageEvent.objects.values_list("occurred_at", flat=True)) == {LAST}


def test_a_check(world: World) -> None:
    assert world.check(mode="consume", id="c1", time=LEAP).status == 200
    checks = [
        {"key": world.key, "meter": "api.calls", "mode": "consume", "id": "c2", "time": LEAP},
        {"key": world.key, "meter": "api.calls"},
    ]
    got = world.gate.check({"checks": checks})
    assert [each["status"] for each in got.body["results"]] == [200, 200]
    assert set(UsageEvent.objects.values_list("occurred_at", flat=True)) == {LAST}


def test_a_line_of_an_access_log(world: World) -> None:
    times = (LEAP, f"{LAST:%d/%b/%Y}:23:59:60 +0000")
    lines = "\n".join(
        json.dumps({"time": time, "request_id": str(number), "customer": world.customer.public_id})
        for number, time in enumerate(times)
    )
    path = "/api/v1/ingest/access-log?type=api.call"
    got = world.gate.send("POST", path, lines.encode())
    assert got.body["accepted"] == 2, got
    assert set(UsageEvent.objects.values_list("occurred_at", flat=True)) == {LAST}


@pytest.mark.parametrize("time", ["12:00:60Z", "23:58:60Z", "23:59:61Z", "23:59:60+05:00"])
def test_there_is_none_at_another_time(world: World, time: str) -> None:
    got = post(world, [event(world, time=f"{LAST:%Y-%m-%d}T{time}")])
    (rejected,) = got.body["rejected"]
    assert (rejected["code"], rejected["param"]) == ("parameter_invalid", "time")
    assert world.check(mode="consume", id="c1", time=f"{LAST:%Y-%m-%d}T{time}").status == 422
