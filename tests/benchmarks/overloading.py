"""Ten times as many callers as the gate can answer, each asking again at once, for 30 seconds."""

from __future__ import annotations

import argparse
import os
import statistics
from dataclasses import replace

from config import environment
from tests.benchmarks import measuring, writing
from tests.benchmarks.measuring import CHECK, NOOP, Case, Effort, Result, World
from tests.benchmarks.watching import resident_mb

TITLE = "Overload"
STORM_S, TIMES = 30.0, 10
P99_FLOOR = 2.0
_STEPS = (64, 96, 144, 216, 324, 486, 729, 1_093, 1_640)
_REFUSED = "503"
_WHAT = ("p99_ms", "requests")


def measure(chosen: argparse.Namespace, effort: Effort) -> str:
    """Measure, and return the section's text."""
    load_before = os.getloadavg()[0]
    with measuring.database() as dsn:
        env = measuring.environment(dsn)
        measuring.migrate(env)
        seeded = measuring.run_module("seeding", chosen.customers, 1, env=env)
        with measuring.server(env) as (port, process_id):
            world = World(seeded["gateway_key"], seeded["keys"], port, process_id)
            noop = _play(Case("noop", "nothing", NOOP, "consume"), effort, world)
            most = _most_callers(effort, world)
            before = _play(_callers(most), effort, world)
            mb_before = resident_mb(process_id)
            storm = _play(_callers(most * TIMES), replace(effort, seconds=STORM_S), world)
            mb_after = resident_mb(process_id)
            after = _play(_callers(most), replace(effort, seconds=1.0, warm_up_s=0.0), world)
            again = _play(_callers(most), effort, world)
        told = writing.conditions(dsn, load_before=load_before, more=_conditions(effort))
    return _text(
        {
            f"{most} callers, as many as are answered without a refusal": before,
            f"{most * TIMES:,} callers for {STORM_S:g} s, each asking again at once": storm,
            f"{most} callers, in the first second after that": after,
            f"{most} callers, later": again,
        },
        nothing=noop.median("requests"),
        grown_mb=mb_after - mb_before,
        told=told,
    )


def _callers(count: int) -> Case:
    return Case("callers", f"{count:,} callers", CHECK, "consume", connections=count)


def _play(case: Case, effort: Effort, world: World) -> Result:
    return Result(case, [measuring.play(case, effort, world)])


def _most_callers(effort: Effort, world: World) -> int:
    """How many callers may wait for answers at a time, well before one of them is refused."""
    most = below = _STEPS[0]
    for count in _STEPS:
        if _play(_callers(count), effort, world).faults:
            break
        below, most = most, count
    return below


def _conditions(effort: Effort) -> dict[str, str]:
    return {
        "Server": "one uvicorn process with uvloop and httptools, "
        f"FAREBOX_GATE_WAIT_MS={environment.GATE_WAIT_MS.default}",
        "Load": "one process; a connection a caller, closed loop: who is answered or refused "
        "asks again at once, whatever Retry-After says",
        "Each row": f"one run of {effort.seconds:g} seconds where it does not say otherwise",
    }


def _text(results: dict[str, Result], *, nothing: float, grown_mb: float, told: str) -> str:
    head = ["Callers", "answered/s", "of nothing", "refused/s", "p50", "p99"]
    rows = [_row(title, each, nothing=nothing) for title, each in results.items()]
    before, storm, after, later = results.values()
    around = [statistics.mean(each.median(what) for each in (before, later)) for what in _WHAT]
    times, rate = (storm.median(w) / usual for w, usual in zip(_WHAT, around, strict=True))
    beside = [
        [
            "p99 of the calls that were let in, times that before and later",
            f"{times:.1f}",
            f"{P99_FLOOR:g}",
            writing.judged(times, floor=P99_FLOOR, aim=None, fewer=True),
        ],
        [
            "answered a second in the storm, of the rate before and later",
            f"{rate:.2f}",
            "",
            "",
        ],
        [
            "refused in the first second after the storm",
            f"{after.faults.get(_REFUSED, 0):,}",
            "0",
            writing.judged(after.faults.get(_REFUSED, 0), floor=0, aim=None, fewer=True),
        ],
        ["memory that the process grew by in the storm", f"{grown_mb:+.0f} MB", "", ""],
    ]
    return f"""{writing.table(head, rows)}

{writing.table(["Beside", "measured", "floor", ""], beside)}

Each request is a consume. p50 and p99 are of those that were answered 200, from sending to the
whole answer; the others were answered 503 `overloaded`. Ten times the callers is not ten times
the rate: a machine of two cores can neither send that nor read it.

{told}"""


def _row(title: str, result: Result, *, nothing: float) -> list[str]:
    others = {name: count for name, count in result.faults.items() if name != _REFUSED}
    told = f"{title} (**{others}**)" if others else title
    (found,) = result.rounds
    span_s = found["span_s"]
    return [
        told,
        f"{result.median('requests'):,.0f}",
        f"{result.median('requests') / nothing:.2f}" if nothing else "",
        f"{result.faults.get(_REFUSED, 0) / span_s:,.0f}",
        f"{result.median('p50_ms'):.1f} ms",
        f"{result.median('p99_ms'):.1f} ms",
    ]
