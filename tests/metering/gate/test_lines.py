"""Which calls go together: a flight takes whole lines, and small flights are two at a time.

Those that came in requests of many have a lane of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import pytest

from metering.gate.calls import Call, Reference
from metering.gate.lines import LARGE, MOST_FLIGHTS, SHORTER, SMALL_FLIGHTS, Flight, Lines

_BATCH = 512
_QUEUE = 20_000


def _calls(customers: Iterable[int], *, of_many: bool = False, weight: int = 1) -> list[Call]:
    return [
        Call(
            gateway_key=b"",
            reference=Reference(customer_id=each),
            deadline=1.0,
            queue=each,
            of_many=of_many,
            weight=weight,
            since=time.monotonic(),
        )
        for each in customers
    ]


def _lines() -> Lines:
    return Lines(batch=_BATCH, queue=_QUEUE)


def _customers(flight: Flight) -> set[object]:
    return {call.queue for call in flight.calls}


async def _begun(taking: asyncio.Task[Flight]) -> bool:
    """Whether a flight that could begin has: every step that is due was taken."""
    for _ in range(3):
        await asyncio.sleep(0)
    return taking.done()


def test_another_flight_than_the_second_is_for_batches() -> None:
    async def story() -> None:
        lines = _lines()
        customers = iter(range(1, 10_000))
        for _ in range(SMALL_FLIGHTS):
            lines.put(_calls([next(customers)]))
            await lines.take()
        third = asyncio.create_task(lines.take())

        lines.put(_calls(next(customers) for _ in range(LARGE - 1)))
        assert not await _begun(third)

        lines.put(_calls([next(customers)]))
        assert await _begun(third)
        assert len(third.result().calls) == LARGE

    asyncio.run(story())


def test_who_waits_flies_when_another_flight_lands() -> None:
    async def story() -> None:
        lines = _lines()
        lines.put(_calls([1]))
        first = await lines.take()
        lines.put(_calls([2]))
        await lines.take()
        lines.put(_calls([1, 3]))
        third = asyncio.create_task(lines.take())
        assert not await _begun(third)

        lines.land(first)

        assert await _begun(third)
        assert _customers(third.result()) == {1, 3}

    asyncio.run(story())


def test_who_asks_one_thing_waits_for_no_batch() -> None:
    async def story() -> None:
        lines = _lines()
        lines.put(_calls(range(1, 5_000), of_many=True))
        for _ in range(MOST_FLIGHTS):
            assert len((await lines.take()).calls) == _BATCH
        taking = asyncio.create_task(lines.take())
        assert not await _begun(taking)  # however many of them wait

        lines.put(_calls([9_000, 4_999]))

        assert await _begun(taking)
        flight = taking.result()
        assert not flight.of_many
        # A customer's own go with it, or they would never fly if it never rested.
        assert [(call.queue, call.of_many) for call in flight.calls] == [
            (9_000, False),
            (4_999, False),
            (4_999, True),
        ]

    asyncio.run(story())


def test_flights_of_many_are_shorter_while_others_ask() -> None:
    async def story() -> None:
        lines = _lines()
        lines.put(_calls([1]))
        lines.land(await lines.take())
        lines.put(_calls(range(10, 2_000), of_many=True))

        assert len((await lines.take()).calls) == _BATCH // SHORTER

    asyncio.run(story())


def test_a_customer_in_the_air_waits_in_both_lanes_until_it_lands() -> None:
    async def story() -> None:
        lines = _lines()
        lines.put(_calls([1], of_many=True))
        first = await lines.take()
        lines.put(_calls([1], of_many=True) + _calls([1]))
        second = asyncio.create_task(lines.take())
        assert not await _begun(second)

        lines.land(first)

        assert await _begun(second)
        assert [call.of_many for call in second.result().calls] == [False, True]

    asyncio.run(story())


def test_who_turns_out_to_be_a_customer_that_waits_claims_it_in_both_lanes() -> None:
    async def story() -> None:
        lines = _lines()
        lines.put(_calls([7]))
        flight = await lines.take()
        lines.put(_calls([1], of_many=True) + _calls([1]))

        assert lines.claim(1, flight)

        second = asyncio.create_task(lines.take())
        assert not await _begun(second)
        lines.land(flight)
        assert await _begun(second)
        assert len(second.result().calls) == 2
        assert not lines.claim(1, Flight(flight.lane))  # that flight has it now

    asyncio.run(story())


def test_a_request_of_many_leaves_room_for_the_others() -> None:
    async def story() -> None:
        lines = _lines()
        assert lines.fit(10 * _QUEUE, of_many=True)  # as the only one it always may
        lines.put(_calls([1], of_many=True, weight=_QUEUE * 3 // 4 - 100))
        assert lines.fit(100, of_many=True)
        assert not lines.fit(101, of_many=True)
        assert lines.free(of_many=False) == _QUEUE // 4 + 100
        assert lines.fit(1, of_many=False)
        lines.put(_calls([2], weight=_QUEUE // 4 + 100))
        assert not lines.fit(1, of_many=False)
        assert lines.free(of_many=False) == 0
        assert lines.free(of_many=True) == 0

    asyncio.run(story())


def test_few_and_many_together_fill_the_queue_and_no_more() -> None:
    async def story() -> None:
        lines = _lines()
        lines.put(_calls([1], weight=_QUEUE - 50))
        lines.put(_calls([2], of_many=True, weight=20))
        assert lines.free(of_many=True) == lines.free(of_many=False) == 30
        lines = Lines(batch=_BATCH, queue=2_000)
        lines.put(_calls([1], of_many=True, weight=5_000))  # as the only one it always may
        assert lines.free(of_many=False) == 500

    asyncio.run(story())


@pytest.mark.parametrize("of_many", [False, True])
def test_a_queue_of_nothing_lets_one_in(of_many: bool) -> None:
    async def story() -> None:
        lines = Lines(batch=1, queue=1)
        assert lines.free(of_many=of_many)
        lines.put(_calls([1], of_many=of_many))
        assert not lines.free(of_many=of_many)

    asyncio.run(story())


async def _once_around(lines: Lines, asked: list[Call]) -> Flight:
    """A flight of the one customer there is, who asks again as soon as it has landed."""
    flight = await lines.take()
    lines.land(flight)
    lines.put(asked)
    return flight


def test_a_customer_that_never_rests_has_its_many_and_its_few_in_turn() -> None:
    """Of one that imports, and asks all the while: neither waits for ever for the other."""

    async def story() -> None:
        lines = _lines()
        lines.put(_calls([1] * 4, of_many=True, weight=1_000))
        lines.put(_calls([1]))
        seen = []
        for _ in range(6):
            flight = await _once_around(lines, _calls([1]))
            seen.append([call.weight for call in flight.calls])
        # Who asks one thing is in each flight, and before what came with many.
        assert seen == [[1], [1, 1_000], [1], [1, 1_000], [1], [1, 1_000]]

    asyncio.run(story())


def test_what_came_with_many_flies_with_strangers_only_where_it_fits() -> None:
    async def story() -> None:
        lines = _lines()
        lines.put(_calls([1], of_many=True, weight=20))
        lines.put(_calls([2], of_many=True, weight=5_000))
        lines.put(_calls([1, 2, 3]))
        flight = await lines.take()
        assert [(call.queue, call.weight) for call in flight.calls] == [
            (1, 1),
            (1, 20),
            (2, 1),
            (3, 1),
        ]

    asyncio.run(story())


def test_what_is_put_back_later_is_not_taken_for_one_that_asks_now() -> None:
    async def story() -> None:
        lines = _lines()
        old = _calls([1])
        old[0].since -= 60
        lines.put(_calls([2]))
        lines.put_back(old)
        assert lines.others_ask()

    asyncio.run(story())
