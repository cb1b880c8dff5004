"""Long work has a piece a round of the loop, whoever has it."""

from __future__ import annotations

import asyncio

from metering.gate.turns import Turns

PIECES = 5


async def _rounds(until: asyncio.Event, seen: list[str]) -> None:
    """Mark each round of the loop: what a single call needs some of."""
    while not until.is_set():
        seen.append("round")
        await asyncio.sleep(0)


def test_several_have_a_piece_each_in_the_order_of_asking_and_no_round_has_two() -> None:
    seen: list[str] = []

    async def work(name: str, turns: Turns) -> None:
        for _ in range(PIECES):
            await turns.turn()
            seen.append(name)

    async def story() -> None:
        turns, over = Turns(lambda: True), asyncio.Event()
        others = asyncio.create_task(_rounds(over, seen))
        await asyncio.gather(*(work(name, turns) for name in "abc"))
        over.set()
        await others

    asyncio.run(story())

    pieces = [each for each in seen if each != "round"]
    assert pieces == list("abc") * PIECES
    text = "".join("." if each == "round" else each for each in seen)
    assert not any(len(run) > 1 for run in text.split("."))


def test_who_went_away_holds_nobody_up() -> None:
    async def story() -> None:
        turns = Turns(lambda: True)
        first, second, third = (asyncio.create_task(turns.turn()) for _ in range(3))
        await asyncio.sleep(0)
        first.cancel()
        second.cancel()
        async with asyncio.timeout(5):
            await third
            await turns.turn()

    asyncio.run(story())


def test_without_anybody_else_nobody_waits_for_a_turn() -> None:
    async def story() -> None:
        turns, over, seen = Turns(lambda: False), asyncio.Event(), list[str]()
        others = asyncio.create_task(_rounds(over, seen))
        for _ in range(PIECES):
            await turns.turn()
        assert not seen
        over.set()
        await others

    asyncio.run(story())
