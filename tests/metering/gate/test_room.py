"""How many calls are let in, by a clock of the test's own."""

from __future__ import annotations

import itertools
import math
import time

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from accounts.operations.versions import bump
from metering.gate import room
from metering.gate.room import LEAST, REFUSAL_S, REFUSALS, Room
from tests.metering.gate.client import GateProcess
from tests.metering.gate.conftest import World

WAIT_S = 0.1
FLIGHT_S = 0.01  # answers come in batches, as the gate's do


class Storm:
    """Callers who ask again at once, and a gate that answers `rate` calls a second.

    A caller asks for `size` calls at a time.
    """

    def __init__(self, rate: float, callers: int, *, size: int = 1) -> None:
        self.room = Room(WAIT_S)
        self.now = 1_000.0
        self.per_flight = max(int(rate * FLIGHT_S), 1)
        self.callers = callers
        self.size = size
        self.done = 0  # calls of the oldest that are inside
        self.refused = 0

    def blow(self, span_s: float) -> None:
        """Let callers call, for so long."""
        end = self.now + span_s
        while self.now < end:
            self.ask()
            self.now += FLIGHT_S
            self.done += min(self.per_flight, self.room.inside - self.done)
            for _ in range(self.done // self.size):
                self.room.leave(self.now, self.size)
            self.done %= self.size

    def ask(self) -> None:
        """Everybody who is not inside asks; who is refused asks again after the next flight."""
        for _ in range(self.callers - self.room.inside // self.size):
            if self.room.full:
                self.room.refuse(self.now)
                self.refused += 1
                return
            self.room.enter(self.now, self.size)


@given(rate=st.floats(500, 20_000), times=st.floats(2, 20))
def test_in_a_storm_so_many_are_inside_as_are_answered_within_the_wait(
    rate: float, times: float
) -> None:
    storm = Storm(rate, callers=int(max(rate * WAIT_S, LEAST) * times))
    storm.blow(1 + storm.callers / rate)  # until those let in at first are answered

    allowed = max(storm.per_flight / FLIGHT_S * WAIT_S, LEAST)
    for _ in range(50):
        storm.blow(FLIGHT_S)
        storm.ask()
        assert allowed * 0.9 <= storm.room.inside <= allowed * 1.1 + 1
    assert storm.refused


@given(rate=st.floats(2_000, 20_000), size=st.integers(2, 1_000), times=st.floats(2, 20))
def test_batches_are_let_in_by_their_calls_and_each_of_them_whole(
    rate: float, size: int, times: float
) -> None:
    allowed = max(rate * WAIT_S, LEAST)
    callers = math.ceil(allowed / size * times) + 1
    storm = Storm(rate, callers, size=size)
    storm.blow(1 + 2 * callers * size / rate)  # until those let in at first are answered

    for _ in range(50):
        storm.blow(FLIGHT_S)
        storm.ask()
        # How fast answers come is seen by whole batches, so it is known less well.
        assert size <= storm.room.inside < allowed * 1.2 + 2 * size
    assert storm.refused


@given(rate=st.floats(500, 20_000))
def test_who_is_answered_within_the_wait_is_never_refused(rate: float) -> None:
    storm = Storm(rate, callers=0)
    storm.callers = int(storm.per_flight / FLIGHT_S * WAIT_S * 0.9)  # flights are of whole calls
    storm.blow(2)

    assert storm.refused == 0


def test_a_burst_is_no_overload() -> None:
    burst = Storm(4_000, callers=1_000)
    burst.ask()
    burst.callers = 100
    burst.blow(2)

    assert burst.refused == 0


def test_a_database_that_stalls_for_a_moment_is_no_overload() -> None:
    stalled = Storm(4_000, callers=100)
    stalled.blow(1)
    stalled.now += 0.8  # nobody is answered, and a thousand come
    stalled.callers = 1_100
    stalled.ask()
    stalled.callers = 100
    stalled.blow(1)

    assert stalled.refused == 0


def test_after_a_storm_all_are_let_in_at_once() -> None:
    storm = Storm(4_000, callers=4_000)
    storm.blow(5)
    refused = storm.refused
    while storm.room.inside:
        storm.room.leave(storm.now)
    storm.callers = 300  # fewer than the wait allows, more than the least
    storm.blow(2)

    assert storm.refused == refused
    assert storm.room.limit == math.inf


def test_a_pause_does_not_make_the_gate_think_that_it_is_slow() -> None:
    storm = Storm(4_000, callers=4_000)
    storm.blow(5)
    refused = storm.refused
    while storm.room.inside:
        storm.room.leave(storm.now)
    storm.callers = 300
    storm.now += 0.9  # so soon that the overload is not over yet
    storm.ask()
    assert storm.room.limit < math.inf
    storm.blow(2)

    assert storm.refused == refused


def test_a_burst_long_after_a_storm_is_no_overload() -> None:
    storm = Storm(4_000, callers=4_000)
    storm.blow(5)
    refused = storm.refused
    while storm.room.inside:
        storm.room.leave(storm.now)
    storm.now += 60
    storm.callers = 1_000
    storm.ask()

    assert storm.refused == refused


def test_a_gate_that_gets_slower_lets_fewer_in() -> None:
    storm = Storm(10_000, callers=5_000)
    storm.blow(2)
    assert storm.room.inside > 800
    storm.per_flight = 20  # 2,000 a second
    storm.blow(2)

    assert storm.room.inside <= 220


def test_refusals_are_told_at_once_while_they_are_few_and_paced_when_they_are_many() -> None:
    found = Room(WAIT_S)
    assert found.refuse(5.0) == 0
    assert found.refuse(5.0) == pytest.approx(1 / REFUSALS)
    assert found.refuse(6.0) == 0
    pauses = [found.refuse(7.0) for _ in range(int(REFUSALS * REFUSAL_S * 2))]
    assert pauses[100] == pytest.approx(100 / REFUSALS)
    late = sorted(pauses[-100:])  # so many at once are spread over a second
    assert REFUSAL_S <= late[0] < 1.05 * REFUSAL_S
    assert 1.95 * REFUSAL_S < late[-1] < 2 * REFUSAL_S
    assert max(b - a for a, b in itertools.pairwise(late)) < 0.03 * REFUSAL_S


def test_without_a_wait_nothing_is_refused_nor_paced() -> None:
    found = Room(math.inf)
    for _ in range(10_000):
        found.enter(0.0)
    for number in range(5_000):
        found.leave(number / 1_000)
    assert not found.full
    assert {found.refuse(9.0) for _ in range(10)} == {0}


@pytest.mark.django_db(transaction=True)
def test_who_began_may_end_and_report_while_others_are_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "REFUSALS", 1e9)  # nobody waits for a refusal here
    gate = GateProcess(wait_s=WAIT_S)
    gate.key = world.gate.key
    check = {"key": world.key, "meter": "api.calls"}
    event = {"specversion": "1.0", "id": "e", "source": "app", "type": "api.call"}
    try:
        held = gate.check(check | {"mode": "hold", "id": "before", "quantity": 1})
        found = gate.gate._engine.room  # type: ignore[union-attr]
        found.limit = 0
        refused = [
            gate.check(check),
            gate.check({"checks": [check]}),
            gate.send("POST", "/api/v1/authorize", headers={"x-farebox-gateway": gate.key}),
        ]
        ended = gate.send(
            "POST", f"/api/v1/holds/{held.body['hold']['id']}/settle", {"quantity": 1}
        )
        reported = gate.send("POST", "/api/v1/events", event | {"subject": world.key})
        found.limit = math.inf
        later = gate.check(check)
    finally:
        gate.stop()

    assert [(each.status, each.body["code"]) for each in refused] == [(503, "overloaded")] * 3
    assert {each.headers["retry-after"] for each in refused} == {"1"}
    assert (ended.status, reported.status) == (200, 200)
    assert later.status == 200
    assert found.inside == 0  # whoever came in has left


@pytest.mark.django_db(transaction=True)
def test_a_batch_is_inside_with_each_of_its_checks(world: World) -> None:
    gate = GateProcess(wait_s=WAIT_S)
    gate.key = world.gate.key
    check = {"key": world.key, "meter": "api.calls", "mode": "consume"}
    checks = [check | {"id": f"one-of-{n}"} for n in range(5)]
    try:
        gate.check(check | {"id": "first"})
        found = gate.gate._engine.room  # type: ignore[union-attr]
        with transaction.atomic():  # the gate waits for the customer's row
            bump(world.customer.id)
            waiting = gate.begin(gate.request("POST", "/api/v1/check", {"checks": checks}))
            deadline = time.monotonic() + 20
            while found.inside != 5:
                assert time.monotonic() < deadline, found.inside
                time.sleep(0.005)  # between two looks at what another thread does
        answer = waiting.result(30)
        inside = found.inside
    finally:
        gate.stop()

    assert [each["status"] for each in answer.body["results"]] == [200] * 5
    assert inside == 0
