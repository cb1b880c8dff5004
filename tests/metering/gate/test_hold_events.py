"""Events that name a hold, and repeats that could not be counted anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from accounts.models import ApiKey
from accounts.operations.versions import bump, bump_catalogue
from metering.models import Hold, Meter, UsageEvent
from metering.queries.events import event_fate
from tests.metering.gate.books import broken
from tests.metering.gate.conftest import World, entitle
from tests.metering.gate.test_events import event, post

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_event_settles_its_hold(world: World) -> None:
    held = world.check(meter="chat.tokens", mode="hold", id="h", quantity=3_000)
    data = {"tokens": 1_234, "model": "m-1", "hold": held.body["hold"]["id"]}

    got = post(world, [event(world, "done", data=data)])

    assert got.body["accepted"] == 1
    assert world.balance(world.tokens) == (1_234, 0)
    assert post(world, [event(world, "done", data=data)]).body["duplicates"] == 1
    assert world.balance(world.tokens) == (1_234, 0)
    for wrong in ("hold_x", 7, held.body["hold"]["id"][:-3] + "zzz"):
        got = post(world, [event(world, "w", data={**data, "hold": wrong})])
        assert got.body["rejected"][0]["code"] == "not_found"


def test_what_else_names_a_settled_hold_is_more_usage(world: World) -> None:
    held = world.check(meter="chat.tokens", mode="hold", id="h", quantity=3_000)
    data = {"model": "m-1", "hold": held.body["hold"]["id"]}
    both = [event(world, f"e{n}", data={**data, "tokens": 100 * n}) for n in (1, 2)]

    assert post(world, both).body == {"accepted": 2, "duplicates": 0, "rejected": []}
    assert post(world, [event(world, "e3", data={**data, "tokens": 7})]).body["accepted"] == 1
    assert post(world, both).body["duplicates"] == 2
    assert world.balance(world.tokens) == (307, 0)
    assert Hold.objects.get().state == "settled"
    assert broken(world.customer.id) == []


def test_an_event_that_settles_keeps_its_own_id_and_time(world: World) -> None:
    held = world.check(meter="chat.tokens", mode="hold", id="h", quantity=3_000)
    then = (datetime.now(UTC) - timedelta(minutes=2)).isoformat()
    data = {"tokens": 50, "hold": held.body["hold"]["id"]}

    assert post(world, [event(world, "mine", data=data, time=then)]).body["accepted"] == 1

    row = UsageEvent.objects.get()
    assert (row.source, row.external_id, row.from_hold) == ("app", "mine", False)
    assert row.occurred_at == datetime.fromisoformat(then)
    again = post(world, [event(world, "mine", data={"tokens": 50})])
    assert again.body["rejected"][0]["code"] == "id_reused"
    assert world.balance(world.tokens) == (50, 0)
    closed = world.gate.send("POST", f"/api/v1/holds/{data['hold']}/settle", {"quantity": 50})
    assert (closed.status, closed.body["code"]) == (422, "id_reused")


def test_an_event_with_the_id_of_its_hold_settles_it(world: World) -> None:
    held = world.check(meter="chat.tokens", mode="hold", id="h", source="app", quantity=3_000)
    hold = held.body["hold"]["id"]
    mine = event(world, "h", data={"tokens": 4_000, "hold": hold})

    assert post(world, [mine]).body == {"accepted": 1, "duplicates": 0, "rejected": []}
    assert post(world, [mine]).body["duplicates"] == 1
    other = post(world, [event(world, "h", data={"tokens": 4_001, "hold": hold})])
    assert other.body["rejected"][0]["code"] == "id_reused"

    row = UsageEvent.objects.get()
    assert (row.from_hold, row.over_hold, row.late) == (True, True, False)
    assert world.balance(world.tokens) == (4_000, 0)


def test_an_event_with_the_id_of_a_hold_that_was_settled_with_as_much_is_a_repeat(
    world: World,
) -> None:
    held = world.check(meter="chat.tokens", mode="hold", id="h", source="app", quantity=3_000)
    hold = held.body["hold"]["id"]
    assert world.gate.send("POST", f"/api/v1/holds/{hold}/settle", {"quantity": 70}).status == 200

    same = post(world, [event(world, "h", data={"tokens": 70, "hold": hold})])
    other = post(world, [event(world, "h", data={"tokens": 71, "hold": hold})])

    assert same.body["duplicates"] == 1
    assert other.body["rejected"][0]["code"] == "id_reused"
    assert world.balance(world.tokens) == (70, 0)


def test_an_event_that_settles_counts_on_every_meter_of_its_type(world: World) -> None:
    now = datetime.now(UTC)
    fields = {"event_type": "llm.completion", "created_at": now}
    requests = Meter.objects.create(key="llm.requests", aggregation="count", **fields)
    users = Meter.objects.create(
        key="llm.users", aggregation="unique", value_property="user", **fields
    )
    for meter in (requests, users):
        entitle(world.customer, meter, included=5)
    with transaction.atomic():
        bump_catalogue()
    held = [world.check(meter="chat.tokens", mode="hold", id=f"h{n}", quantity=9) for n in (1, 2)]

    got = post(
        world,
        [
            event(
                world, f"e{n}", data={"tokens": 5, "user": "ada", "hold": each.body["hold"]["id"]}
            )
            for n, each in enumerate(held)
        ],
    )

    assert got.body["accepted"] == 2
    assert world.balance(world.tokens) == (10, 0)
    assert world.balance(requests) == (2, 0)
    assert world.balance(users) == (1, 0)
    assert broken(world.customer.id) == []


def test_a_hold_that_was_released_takes_no_event(world: World) -> None:
    held = world.check(meter="chat.tokens", mode="hold", id="h", quantity=3_000)
    hold = held.body["hold"]["id"]
    assert world.gate.send("POST", f"/api/v1/holds/{hold}/release", {}).status == 200
    before = world.state()

    got = post(world, [event(world, "e", data={"tokens": 5, "hold": hold})])

    assert got.body["rejected"][0]["code"] == "hold_released"
    assert world.state() == before


REPEATS = ["archived", "too old", "key revoked", "stamped ahead"]


@pytest.mark.parametrize("why", REPEATS)
def test_a_repeat_is_a_repeat_although_it_could_not_be_counted_anew(world: World, why: str) -> None:
    now = datetime.now(UTC)
    first = event(world, "1", subject=world.key, time=now.isoformat())
    again = dict(first)
    assert post(world, [first]).body["accepted"] == 1
    if why == "archived":
        with transaction.atomic():
            Meter.objects.filter(id=world.tokens.id).update(archived_at=now)
            bump_catalogue()
    elif why == "too old":
        again["time"] = (now - timedelta(days=91)).isoformat()
    elif why == "stamped ahead":
        again["time"] = (now + timedelta(minutes=6)).isoformat()
    else:
        _revoke(world, at=now - timedelta(seconds=1))
    strange = again | {"id": "2"}

    got = post(world, [strange, again])

    assert (got.body["accepted"], got.body["duplicates"]) == (0, 1)
    assert [each["id"] for each in got.body["rejected"]] == ["2"]
    other = post(world, [again | {"data": {"tokens": 1}}])
    assert other.body["rejected"][0]["code"] == "id_reused"
    assert world.balance(world.tokens) == (100, 0)


def test_what_happened_while_a_key_was_good_is_counted(world: World) -> None:
    now = datetime.now(UTC)
    _revoke(world, at=now - timedelta(minutes=1))
    stamps = [(now - timedelta(minutes=n)).isoformat() for n in (2, 0)]

    got = post(
        world,
        [event(world, f"e{n}", subject=world.key, time=at) for n, at in enumerate(stamps)],
    )

    assert got.body["accepted"] == 1
    assert [(each["id"], each["code"]) for each in got.body["rejected"]] == [("e1", "key_revoked")]
    assert world.balance(world.tokens) == (100, 0)


def _revoke(world: World, *, at: datetime) -> None:
    with transaction.atomic():
        ApiKey.objects.filter(customer=world.customer).update(revoked_at=at)
        bump(world.customer.id)


def test_the_fate_of_an_event_tells_the_hold_that_it_named(world: World) -> None:
    held = world.check(meter="chat.tokens", mode="hold", id="h", source="app", quantity=10)
    hold = held.body["hold"]["id"]
    given = {
        "other": {"hold": hold},
        "none": {},
        "odd": {"hold": "by the rail"},
        "h": {"hold": hold},
    }
    events = [event(world, id_, data={"tokens": 5} | data) for id_, data in given.items()]

    assert post(world, events).body["accepted"] == 2  # not "odd"; and "h" is a repeat
    UsageEvent.objects.filter(external_id="none").update(properties={"hold": "by the rail"})

    named = {
        row.external_id: fate.hold
        for row in UsageEvent.objects.all()
        if (fate := event_fate(world.customer.id, event_id=row.id)) is not None
    }
    assert named == {"other": Hold.objects.get(), "none": None}


def test_a_hold_that_comes_again_beside_its_own_event_is_answered_as_at_first(
    world: World,
) -> None:
    body = {"key": world.key, "meter": "chat.tokens", "mode": "hold", "id": "h", "source": "app"}
    first = world.gate.check(body)
    mine = event(world, "h", data={"tokens": 3, "hold": first.body["hold"]["id"]})

    reported, again = world.gate.together(("/api/v1/events", [mine]), ("/api/v1/check", body))

    assert reported.body["accepted"] == 1
    assert (again.status, again.body) == (200, first.body)
    assert world.balance(world.tokens) == (3, 0)
