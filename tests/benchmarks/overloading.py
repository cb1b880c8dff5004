"""Ten times what the gate can answer, for 30 seconds: of callers, and of requests a second.

Ten times the rate of single calls is more than a load on the same two cores can send, so the rate
is of requests of 100 consumes each.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from config import environment
from tests.benchmarks import measuring, writing
from tests.benchmarks.measuring import CHECK, NOOP, Case, Effort, Result, World
from tests.benchmarks.watching import resident_mb

TITLE = "Overload"
STORM_S, TIMES = 30.0, 10
P99_FLOOR = 2.0
_STEPS = (64, 96, 144, 216, 324, 486, 729, 1_093, 1_640)
_ITEMS = 100
_LINE_S = 2.5  # of the open loop's requests have connections: a refusal may take two to be told
_SHARES = (
    0.5,
    0.6,
    0.7,
    0.75,
    0.8,
    0.85,
    0.9,
    0.95,
    1.0,
)  # of what 8 connections get, each asking again at once
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
            by_rate = _by_rate(effort, world)
        told = writing.conditions(dsn, load_before=load_before, more=_conditions(effort))
    nothing = noop.median("requests")
    by_callers = _Storm(before, storm, after, again, mb_after - mb_before)
    return _text(
        _tables(
            by_callers,
            (
                f"{most} callers, as many as are answered without a refusal",
                f"{most * TIMES:,} callers for {STORM_S:g} s, each asking again at once",
                f"{most} callers, in the first second after that",
                f"{most} callers, later",
            ),
            head=["Callers", "answered/s", "of nothing", "refused/s", "p50", "p99"],
            nothing=nothing,
        ),
        _rate_tables(by_rate),
        told=told,
    )


@dataclass(frozen=True, slots=True)
class _Storm:
    """What was seen before, in, right after and some time after a storm."""

    before: Result
    storm: Result
    after: Result
    later: Result
    grown_mb: float

    @property
    def rows(self) -> tuple[Result, ...]:
        """In the order of time."""
        return self.before, self.storm, self.after, self.later


def _by_rate(effort: Effort, world: World) -> _Storm:
    """The storm of requests that leave at planned times, whatever was answered."""
    rate = _most_a_second(effort, world)
    before = _play(_paced(rate), effort, world)
    mb_before = resident_mb(world.process_id)
    storm = _play(_paced(rate * TIMES), replace(effort, seconds=STORM_S), world)
    grown = resident_mb(world.process_id) - mb_before
    after = _play(_paced(rate), replace(effort, seconds=1.0, warm_up_s=0.0), world)
    return _Storm(before, storm, after, _play(_paced(rate), effort, world), grown)


def _paced(rate: float) -> Case:
    title = f"{rate:,.0f} requests of {_ITEMS} consumes a second"
    return Case(
        "paced",
        title,
        CHECK,
        "consume",
        _ITEMS,
        connections=max(int(rate * _LINE_S), 64),
        rate=rate,
    )


def _most_a_second(effort: Effort, world: World) -> float:
    """The highest of some rates at which nothing is refused, and nothing is left behind."""
    asked = Case("rate", "as fast as 8 connections go", CHECK, "consume", _ITEMS, connections=8)
    most = _play(asked, effort, world).median("requests")
    below = most * _SHARES[0]
    for share in _SHARES:
        found = _play(_paced(most * share), effort, world)
        if found.faults or found.median("requests") < 0.95 * most * share:
            break
        below = most * share
    return below


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
        "asks again at once, whatever Retry-After says; open loop where a rate is told, with "
        f"as many connections as requests leave in {_LINE_S:g} seconds",
        "Each row": f"one run of {effort.seconds:g} seconds where it does not say otherwise",
    }


def _text(by_callers: str, by_rate: str, *, told: str) -> str:
    return f"""{by_callers}

Each request is a consume. p50 and p99 are of those that were answered 200, from sending to the
whole answer; the others were answered 503 `overloaded`. Ten times the callers is not ten times
the rate: a load on the same two cores can neither send that nor read it. With {_ITEMS} consumes a
request it can:

{by_rate}

An answer's time counts from when its request was planned to leave.

{told}"""


def _rate_tables(found: _Storm) -> str:
    rate = found.before.case.rate
    return _tables(
        found,
        (
            f"{rate:,.0f} requests a second, none of them refused",
            f"{rate * TIMES:,.0f} a second for {STORM_S:g} s",
            f"{rate:,.0f} in the first second after that",
            f"{rate:,.0f} later",
        ),
        head=[f"Requests of {_ITEMS} consumes", "answered/s", "refused/s", "p50", "p99"],
        nothing=None,
    )


def _tables(found: _Storm, titles: Sequence[str], *, head: list[str], nothing: float | None) -> str:
    rows = [
        _row(title, each, nothing=nothing) for title, each in zip(titles, found.rows, strict=True)
    ]
    return f"{writing.table(head, rows)}\n\n{_beside(found)}"


def _beside(found: _Storm) -> str:
    usual = [
        statistics.mean(each.median(what) for each in (found.before, found.later)) for what in _WHAT
    ]
    times, rate = (found.storm.median(w) / of for w, of in zip(_WHAT, usual, strict=True))
    refused_after = found.after.faults.get(_REFUSED, 0)
    rows = [
        [
            "p99 of the calls that were let in, times that before and later",
            f"{times:.1f}",
            f"{P99_FLOOR:g}",
            writing.judged(times, floor=P99_FLOOR, aim=None, fewer=True),
        ],
        ["answered a second in the storm, of the rate before and later", f"{rate:.2f}", "", ""],
        [
            "refused in the first second after the storm",
            f"{refused_after:,}",
            "0",
            writing.judged(refused_after, floor=0, aim=None, fewer=True),
        ],
        ["memory that the process grew by in the storm", f"{found.grown_mb:+.0f} MB", "", ""],
    ]
    return writing.table(["Beside", "measured", "floor", ""], rows)


def _row(title: str, result: Result, *, nothing: float | None) -> list[str]:
    others = {name: count for name, count in result.faults.items() if name != _REFUSED}
    told = f"{title} (**{others}**)" if others else title
    (found,) = result.rounds
    span_s = found["span_s"]
    of_nothing = [] if nothing is None else [f"{result.median('requests') / nothing:.2f}"]
    return [
        told,
        f"{result.median('requests'):,.0f}",
        *of_nothing,
        f"{result.faults.get(_REFUSED, 0) / span_s:,.0f}",
        f"{result.median('p50_ms'):.1f} ms",
        f"{result.median('p99_ms'):.1f} ms",
    ]
