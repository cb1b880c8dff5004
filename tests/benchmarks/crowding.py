"""What a decision costs where more customers call than a gate keeps copies of, beside as many."""

from __future__ import annotations

import argparse
import os
import random
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import psycopg

from tests.benchmarks import filling, measuring, writing
from tests.benchmarks.filling import Span
from tests.benchmarks.measuring import CHECK, NOOP, Case, Effort, Result, World
from tests.benchmarks.watching import resident_mb

TITLE = "More customers than copies"
RATIOS = (1, 2)  # active customers over copies
_CASES = (
    Case("noop", "nothing", NOOP, "consume"),
    Case("peek", "peek", CHECK, "peek"),
    Case("consume", "consume", CHECK, "consume"),
)
_DRAWN_A_SECOND, _DRAWN_MOST = 20_000, 200_000  # customers by chance for one turn
_FILL_S = 2.0


@dataclass(frozen=True, slots=True)
class Side:
    """One of the servers: its customers' keys, and what was measured there."""

    keys: Sequence[str]
    world: World
    begun_mb: float
    results: dict[str, Result]

    def rates(self, name: str) -> list[float]:
        """A case's requests a second, round by round."""
        return [found["requests"] for found in self.results[name].rounds]

    def ratios(self, name: str) -> list[float]:
        """A case's rate over that of nothing, round by round."""
        pairs = zip(self.rates(name), self.rates("noop"), strict=True)
        return [rate / nothing if nothing else 0.0 for rate, nothing in pairs]


def measure(chosen: argparse.Namespace, effort: Effort) -> str:
    """Measure, and return the section's text."""
    load_before, copies = os.getloadavg()[0], chosen.copies
    with measuring.database() as dsn, ExitStack() as running:
        env = measuring.environment(dsn, FAREBOX_GATE_COPIES=str(copies))
        seeded, pattern_id = filling.seed_one(dsn, env)
        active = [ratio * copies for ratio in RATIOS]
        with psycopg.connect(dsn) as connection:
            span = Span(0, sum(active))
            filling.add_customers(connection, span=span, pattern_id=pattern_id)
            keys = filling.give_keys(connection, range(span.end))
        filling.settle_down(dsn)
        firsts = [sum(active[:place]) for place in range(len(active))]
        sides = [
            running.enter_context(_side(env, keys[first : first + count], seeded["gateway_key"]))
            for first, count in zip(firsts, active, strict=True)
        ]
        for side in sides:
            _fill(side, effort)
        for number in range(effort.rounds):
            for case in _CASES:
                for side in sides if number % 2 == 0 else reversed(sides):
                    world = _by_chance(side, effort)
                    side.results[case.name].rounds.append(measuring.play(case, effort, world))
        memory = [resident_mb(side.world.process_id) for side in sides]
        told = writing.conditions(
            dsn, load_before=load_before, more=_conditions(effort, copies=copies)
        )
    return _text(sides, memory, told=told)


@contextmanager
def _side(env: dict[str, str], keys: Sequence[str], gateway_key: str) -> Iterator[Side]:
    with measuring.server(env) as (port, process_id):
        world = World(gateway_key, keys, port, process_id)
        results = {case.name: Result(case) for case in _CASES}
        yield Side(keys, world, resident_mb(process_id), results)


def _fill(side: Side, effort: Effort) -> None:
    """Let the server see each of its customers once, one after the other."""
    peek = Case("peek", f"peek at {len(side.keys):,}", CHECK, "peek", 100, connections=8)
    seconds, seen = max(effort.seconds, _FILL_S), 0.0
    while seen < len(side.keys):
        seen = measuring.play(peek, replace(effort, seconds=seconds), side.world)["per_second"]
        seen *= seconds
        seconds *= max(1.2 * len(side.keys) / max(seen, 1.0), 1.0)


def _by_chance(side: Side, effort: Effort) -> World:
    """The same server asked about customers by chance: in order, none would be met twice."""
    count = min(int(_DRAWN_A_SECOND * (effort.seconds + effort.warm_up_s)), _DRAWN_MOST)
    return replace(side.world, keys=random.choices(side.keys, k=count))


def _conditions(effort: Effort, *, copies: int) -> dict[str, str]:
    return {
        "Data": (
            f"one database with {sum(RATIOS) * copies:,} customers with key, standing, "
            "entitlement and balance, made by the database itself as Farebox writes them"
        ),
        "Copies": f"FAREBOX_GATE_COPIES is {copies:,} in each server",
        "Load": (
            f"one process, {effort.connections} connections, each request about a customer by "
            "chance, all equally likely"
        ),
        "Each case": (
            f"median of {effort.rounds} rounds of {effort.seconds:g} seconds, by turns: in each "
            "round each case at the one server and at once at the other, which have customers of "
            "their own, saw all of them first, and run all the time"
        ),
    }


def _text(sides: Sequence[Side], memory: Sequence[float], *, told: str) -> str:
    fits, crowd = sides
    rows = []
    for case in _CASES:
        seen = [found for side in sides for found in side.results[case.name].rounds]
        compared = case.name != "noop"
        rows.append(
            [
                writing.with_faults(case.title, Result(case, seen)),
                *(f"{statistics.median(side.rates(case.name)):,.0f}" for side in sides),
                f"{_change(fits.rates(case.name), crowd.rates(case.name)):+.0%}",
                *(f"{statistics.median(side.ratios(case.name)):.2f}" for side in sides),
                f"{_change(fits.ratios(case.name), crowd.ratios(case.name)):+.0%}"
                if compared
                else "",
                *(f"{side.results[case.name].median('p99_ms'):,.1f} ms" for side in sides),
            ]
        )
    names = [f"{len(side.keys):,} active" for side in sides]
    head = ["Case, a second", *names, "change", *(f"of nothing, {name}" for name in names)]
    head += ["change of that", *(f"p99, {name}" for name in names)]
    kept = [
        [f"{len(side.keys):,}", f"{side.begun_mb:,.0f} MB", f"{mb:,.0f} MB"]
        for side, mb in zip(sides, memory, strict=True)
    ]
    space = writing.table(["Active customers", "gate's memory at first", "at the end"], kept)
    return f"""{writing.table(head, rows)}

With twice as many active as copies every second call is of a customer that has to be read first.
Changes are of the larger against the smaller in the same round; they, rates and ratios are medians
of the rounds.

{space}

{told}"""


def _change(few: Sequence[float], many: Sequence[float]) -> float:
    pairs = zip(few, many, strict=True)
    return statistics.median(after / before if before else 0.0 for before, after in pairs) - 1
