"""The gate's own cases: each decision's rate beside a request that does nothing, and its p99."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace

from tests.benchmarks import measuring, writing
from tests.benchmarks.measuring import CHECK, EVENTS, NOOP, Case, Effort, Result, World

TITLE = "The gate"
DRF = "/bench/drf"
HALF_P99_FLOOR_MS, HALF_P99_AIM_MS = 10.0, 5.0


@dataclass(frozen=True, slots=True)
class Goal:
    """Floor and aim of a case: its rate over the rate of nothing."""

    floor: float
    aim: float
    of_requests: bool = False  # the ratio is of requests, not of what they carry


GOALS = {
    "peek": Goal(0.5, 0.8),
    "consume": Goal(0.35, 0.6),
    "consume_hot": Goal(0.30, 0.6),
    "hold": Goal(0.25, 0.5, of_requests=True),
    "checks_peek": Goal(1.5, 3.0),
    "checks": Goal(1.5, 3.0),
    "event": Goal(0.3, 0.6),
}


def cases(customers: int) -> list[Case]:
    """What is measured, with that many customers."""
    many = f"{customers:,} customers"
    return [
        Case("noop", "nothing: read the body, answer", NOOP, "consume"),
        Case("peek", f"peek, {many}", CHECK, "peek"),
        Case("consume", f"consume, {many}", CHECK, "consume"),
        Case("consume_hot", "consume, one customer", CHECK, "consume", customers=1),
        Case("hold", f"hold and settle (a pair is two requests), {many}", CHECK, "hold"),
        Case("checks_peek", f"100 peeks a request, {many}", CHECK, "peek", 100, connections=8),
        Case("checks", f"100 consumes a request, {many}", CHECK, "consume", 100, connections=8),
        Case("event", f"one event a request, {many}", EVENTS, "events", 1),
        Case("events", f"1,000 events a request, {many}", EVENTS, "events", 1_000, connections=4),
    ]


def drf_cases(customers: int) -> list[Case]:
    """The same consume as a plain view."""
    many = f"the same consume as a DRF view, {customers:,} customers"
    return [
        Case("drf", many, DRF, "consume"),
        Case("drf_hot", "the same consume as a DRF view, one customer", DRF, "consume", 0, 1),
    ]


def measure(chosen: argparse.Namespace, effort: Effort) -> str:
    """Measure, and return the section's text."""
    load_before = os.getloadavg()[0]
    with measuring.database() as dsn:
        env = measuring.environment(dsn)
        measuring.migrate(env)
        seeded = measuring.run_module("seeding", chosen.customers, chosen.drf_customers, env=env)
        with measuring.server(env) as (port, process_id):
            world = World(seeded["gateway_key"], seeded["keys"], port, process_id)
            plain = World(seeded["gateway_key"], seeded["drf_keys"], port, process_id)
            nothing, *others = cases(chosen.customers)
            results = measuring.play_by_turns(nothing, others, effort, world)
            compared = drf_cases(chosen.drf_customers)
            results |= measuring.play_by_turns(nothing, compared, effort, plain) | {
                nothing.name: results[nothing.name]
            }
            rate = results["consume"].median("requests") / 2
            half, idle = (
                _paced(results[name].case, rate, effort, world) for name in ("consume", "noop")
            )
        told = writing.conditions(
            dsn,
            load_before=load_before,
            more=_conditions(effort, results["noop"], late=half.median("late_p99_ms")),
        )
    return _text(results, half, idle, rate=rate, told=told)


def _paced(case: Case, rate: float, effort: Effort, world: World) -> Result:
    paced = replace(case, title=f"{case.title}, {rate:,.0f} a second", rate=rate)
    return measuring.play_rounds([paced], effort, world)[case.name]


def _conditions(effort: Effort, noop: Result, *, late: float) -> dict[str, str]:
    cpu, busy = noop.median("cpu_us"), noop.median("server_share")
    return {
        "Server": "one uvicorn process with uvloop and httptools",
        "Load": (
            f"one process, {effort.connections} connections (8 and 4 where a request is a batch); "
            f"it takes {cpu:.0f} µs of CPU a request, and with *nothing* to do the server is "
            f"{busy:.0%} of a core busy; in the open loop it sends p99 {late:.1f} ms after the "
            "planned time"
        ),
        "Each case": (
            f"median of {effort.rounds} rounds of {effort.seconds:g} seconds, each after one of "
            f"*nothing*, {effort.warm_up_s:g} second to warm up"
        ),
    }


def _text(results: dict[str, Result], half: Result, idle: Result, *, rate: float, told: str) -> str:
    head = ["Case", "a second", "requests/s", "of nothing", "floor", "aim", "", "p50", "p99"]
    rows = [_row(result) for result in results.values()]
    half_row = [
        writing.with_faults(f"p99 of consume at half its rate ({rate:,.0f}/s, open loop)", half),
        f"{half.median('p99_ms'):.1f} ms",
        f"{HALF_P99_FLOOR_MS:g} ms",
        f"{HALF_P99_AIM_MS:g} ms",
        writing.judged(
            half.median("p99_ms"), floor=HALF_P99_FLOOR_MS, aim=HALF_P99_AIM_MS, fewer=True
        ),
    ]
    idle_row = [
        writing.with_faults("p99 of *nothing* at that rate, which is the machine's", idle),
        f"{idle.median('p99_ms'):.1f} ms",
        "",
        "",
        "",
    ]
    consume, drf = (results[name].median("requests") for name in ("consume", "drf"))
    times = consume / drf if drf else 0.0
    drf_row = [
        "consume at the gate, times as fast as the DRF view",
        f"{times:.1f}",
        "5",
        "10",
        writing.judged(times, floor=5, aim=10),
    ]
    return f"""{writing.table(head, rows)}

{writing.table(["Beside", "measured", "floor", "aim", ""], [half_row, idle_row, drf_row])}

A second: checks, events or pairs, not requests. Of nothing: that rate over the requests/s of
*nothing* that were measured right before it, the median of the rounds, because a machine that
others use is twice as fast in one minute as in the next; for hold and settle the ratio of requests.
p50 and p99 are of one request (of both, for a hold with its settle), with all connections always
waiting for an answer: they are the time in a full queue. At half the rate requests leave at planned
times, and an answer's time counts from the planned one, whatever kept the request from leaving.
Every answer that is not 200, and every check or event of a batch that was not admitted, is counted
and told beside the case.

The DRF view does the same work one transaction a call: it authenticates, locks the balance with
`select_for_update`, writes the event and the balance; it runs in 16 threads with a connection each.
It lacks the holds, grants, replays and denials that the gate has.

{told}"""


def _row(result: Result) -> list[str]:
    case = result.case
    goal = GOALS.get(case.name)
    share = result.share("requests" if goal is not None and goal.of_requests else "per_second")
    return [
        writing.with_faults(case.title, result),
        f"{result.median('per_second'):,.0f}",
        f"{result.median('requests'):,.0f}",
        f"{share:.2f}",
        f"{goal.floor:g}" if goal else "",
        f"{goal.aim:g}" if goal else "",
        writing.judged(share, floor=goal.floor, aim=goal.aim) if goal else "",
        f"{result.median('p50_ms'):,.1f} ms",
        f"{result.median('p99_ms'):,.1f} ms",
    ]
