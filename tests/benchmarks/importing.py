"""How long one check takes while others report or ask by the thousand."""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tests.benchmarks import measuring, writing
from tests.benchmarks.measuring import CHECK, EVENTS, Case, Effort, Result, World

TITLE = "Beside an import"
_RATE = 500.0  # of single consumes a second: what two gateways may ask beside an import
_BEFORE_S, _AFTER_S = 3.0, 3.0  # the flood begins earlier and ends later than what is measured
_FLOODS = (
    Case("events", "4 connections, 1,000 events a request", EVENTS, "events", 1_000, connections=4),
    Case("checks", "4 connections, 100 consumes a request", CHECK, "consume", 100, connections=4),
)


def measure(chosen: argparse.Namespace, effort: Effort) -> str:
    """Measure, and return the section's text."""
    load_before = os.getloadavg()[0]
    with measuring.database() as dsn:
        env = measuring.environment(dsn)
        measuring.migrate(env)
        seeded = measuring.run_module("seeding", chosen.customers, 1, env=env)
        with measuring.server(env) as (port, process_id):
            world = World(seeded["gateway_key"], seeded["keys"], port, process_id)
            one = Case("consume", f"consume, {_RATE:,.0f} a second", CHECK, "consume", rate=_RATE)
            alone = Result(one)
            floods = [(Result(one), Result(each)) for each in _FLOODS]
            measuring.play(replace(_FLOODS[0], title="to warm up"), effort, world)
            for _ in range(effort.rounds):
                alone.rounds.append(measuring.play(one, effort, world))
                for beside, flood in floods:
                    seen, flooded = _together(one, flood.case, effort, world)
                    beside.rounds.append(seen)
                    flood.rounds.append(flooded)
        told = writing.conditions(dsn, load_before=load_before, more=_conditions(effort))
    head = ["A consume, while there is", "p50", "p99", "meanwhile", "refused"]
    rows = [_row("nothing else", alone, None)]
    rows += [_row(flood.case.title, beside, flood) for beside, flood in floods]
    return f"""{writing.table(head, rows)}

One process answers both. A consume's time counts from when it was planned to leave, {_RATE:,.0f} a
second, whatever was answered. Meanwhile: events or consumes of the others a second, each of whose
connections asks again at once; refused: of these requests, 503 `overloaded`. Before there were two
lanes ([decision 19](decisions/0019-who-asks-one-thing-goes-first.md)), a consume beside the events
took 2.9 s (p50) in such a run.

{told}"""


def _together(
    one: Case, flood: Case, effort: Effort, world: World
) -> tuple[dict[str, float], dict[str, float]]:
    """What was seen of single consumes, and of the flood that went on all the while."""
    longer = replace(effort, seconds=effort.seconds + _BEFORE_S + _AFTER_S)
    with ThreadPoolExecutor(2) as both:
        flooded = both.submit(measuring.play, flood, longer, world)
        seen = both.submit(measuring.play, one, replace(effort, warm_up_s=_BEFORE_S), world)
        return seen.result(), flooded.result()


def _row(title: str, beside: Result, flood: Result | None) -> list[str]:
    refused = 0 if flood is None else flood.faults.get("503", 0)
    others = {kind: count for kind, count in beside.faults.items() if count}
    return [
        f"{title} (**{others}**)" if others else title,
        f"{beside.median('p50_ms'):.1f} ms",
        f"{beside.median('p99_ms'):.1f} ms",
        "" if flood is None else f"{flood.median('per_second'):,.0f}",
        "" if flood is None else f"{refused:,}",
    ]


def _conditions(effort: Effort) -> dict[str, str]:
    return {
        "Server": "one uvicorn process with uvloop and httptools",
        "Load": "two processes, one for the consumes (64 connections, open loop), one for the "
        "others (closed loop)",
        "Each row": f"median of {effort.rounds} rounds of {effort.seconds:g} seconds",
    }
