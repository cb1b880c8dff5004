"""Deciding what a flight has, customer by customer, over their copies."""

from __future__ import annotations

from collections.abc import Iterable

from metering.gate import answers
from metering.gate.calls import Check, Closing, Reported, Work
from metering.gate.checks import decide_check
from metering.gate.events import Counting
from metering.gate.holds import decide_closing
from metering.gate.turns import PIECE, Turns
from metering.gate.wire import Problem


async def decide_by_turns(works: Iterable[Work], counting: Counting, turns: Turns) -> None:
    """As `decide` for each, in pieces: nobody else changes the copies of a flight's customers."""
    done = PIECE
    for work in works:
        if done >= PIECE:
            await turns.turn()
            done = 0
        decide(work, counting)
        done += sum(call.weight for call in work.calls)


def decide(work: Work, counting: Counting) -> None:
    """Give each call of a customer its answer, or what it is refused for."""
    catalogue, found, now = counting.catalogue, counting.found, counting.now
    for call in tuple(work.calls):
        if call.done:
            continue  # answered 503 meanwhile: its answer must not change any more
        call.barred = True
        try:
            if call.gateway_key not in counting.callers:
                catalogue.caller(call.gateway_key, now=now)
                counting.callers.add(call.gateway_key)
            call.barred = False
            if isinstance(call, Reported):
                call.fates.clear()
                counting.count(call, work)
            elif isinstance(call, Check):
                call.answer = decide_check(
                    call, work, catalogue=catalogue, found=found, now=now, bounds=counting.bounds
                )
            elif isinstance(call, Closing):
                call.answer = decide_closing(call, work, catalogue=catalogue, found=found, now=now)
            call.failure = None
        except Problem as refused:
            # Said of the copy, so it waits for the version's confirmation like any answer.
            if isinstance(call, Reported):
                call.refuse(refused)  # also what an earlier round had accepted
            call.answer = answers.problem(refused, base_url="")
            call.failure = refused
