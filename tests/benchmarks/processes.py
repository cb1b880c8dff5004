"""One gate process and two of them, on the same customers and the same cores."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import ExitStack

from tests.benchmarks import deciding, measuring, writing
from tests.benchmarks.measuring import Case, Effort, Result, World

TITLE = "Two processes"
NAMES = ("peek", "consume", "consume_hot", "checks_peek", "checks", "events")


def measure(chosen: argparse.Namespace, effort: Effort) -> str:
    """Measure, and return the section's text."""
    load_before = os.getloadavg()[0]
    with measuring.database() as dsn:
        env = measuring.environment(dsn)
        measuring.migrate(env)
        seeded = measuring.run_module("seeding", chosen.customers, 0, env=env)
        with ExitStack() as stack:
            worlds = []
            for count in (1, 2):
                port, process_id = stack.enter_context(measuring.server(env, processes=count))
                worlds.append(World(seeded["gateway_key"], seeded["keys"], port, process_id))
            every = {case.name: case for case in deciding.cases(chosen.customers)}
            measured = [every[name] for name in NAMES]
            results = _by_turns(every["noop"], measured, effort, worlds)
        told = writing.conditions(dsn, load_before=load_before, more=_conditions(effort))
    return _text(measured, results, told)


def _by_turns(
    nothing: Case, cases: Sequence[Case], effort: Effort, worlds: Sequence[World]
) -> list[dict[str, Result]]:
    """Each case in both, one right after the other, and which comes first takes turns."""
    results = [{case.name: Result(case) for case in cases} for _ in worlds]
    for number in range(effort.rounds):
        for case in cases:
            for which in (0, 1) if number % 2 == 0 else (1, 0):
                before = measuring.play(nothing, effort, worlds[which])
                found = measuring.play(case, effort, worlds[which])
                results[which][case.name].rounds.append(found | {"nothing": before["requests"]})
    return results


def _conditions(effort: Effort) -> dict[str, str]:
    return {
        "Server": "uvicorn with uvloop and httptools, one process and two (`--workers 2`)",
        "Load": f"one process, {effort.connections} connections (8 and 4 for batches)",
        "Each case": (
            f"median of {effort.rounds} rounds of {effort.seconds:g} seconds, one and two by "
            f"turns, each after one of *nothing*, {effort.warm_up_s:g} second to warm up"
        ),
    }


def _text(cases: Sequence[Case], results: Sequence[dict[str, Result]], told: str) -> str:
    head = [
        "Case", "one: a second", "two: a second", "two ÷ one", "one: of nothing", "two: of nothing",
        "one: p99", "two: p99",
    ]  # fmt: skip
    rows = [_row(case, results[0][case.name], results[1][case.name]) for case in cases]
    return f"""{writing.table(head, rows)}

A case in one process and in two, which share the machine with PostgreSQL and the load. A customer
that one of the two has changed since the other one read it is decided again there, which is what
writing in both costs; peeks change nothing. Of nothing: of what the same processes answer of it.

{told}"""


def _row(case: Case, one: Result, two: Result) -> list[str]:
    rates = [each.median("per_second") for each in (one, two)]
    return [
        writing.with_faults(writing.with_faults(case.title, one), two),
        *(f"{rate:,.0f}" for rate in rates),
        f"{rates[1] / rates[0]:.2f}" if rates[0] else "",
        *(f"{each.share('per_second'):.2f}" for each in (one, two)),
        *(f"{each.median('p99_ms'):,.1f} ms" for each in (one, two)),
    ]
