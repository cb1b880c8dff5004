"""Which calls go together: a flight takes whole lines, and small flights are two at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from metering.gate.calls import Call, Reference
from metering.gate.lines import LARGE, SMALL_FLIGHTS, Flight, Lines

_BATCH = 512


def _calls(customers: Iterable[int]) -> list[Call]:
    return [
        Call(gateway_key=b"", reference=Reference(customer_id=each), deadline=1.0, queue=each)
        for each in customers
    ]


async def _begun(taking: asyncio.Task[Flight]) -> bool:
    """Whether a flight that could begin has: every step that is due was taken."""
    for _ in range(3):
        await asyncio.sleep(0)
    return taking.done()


def test_another_flight_than_the_second_is_for_batches() -> None:
    async def story() -> None:
        lines = Lines(batch=_BATCH)
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
        lines = Lines(batch=_BATCH)
        lines.put(_calls([1]))
        first = await lines.take()
        lines.put(_calls([2]))
        await lines.take()
        lines.put(_calls([1, 3]))
        third = asyncio.create_task(lines.take())
        assert not await _begun(third)

        lines.land(first)

        assert await _begun(third)
        assert {call.queue for call in third.result().calls} == {1, 3}

    asyncio.run(story())
