"""What a decision costs as data grows: customers, events stored, and the gate's memory."""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

import psycopg

from config import environment
from tests.benchmarks import filling, measuring, writing
from tests.benchmarks.filling import Span
from tests.benchmarks.measuring import CHECK, EVENTS, NOOP, Case, Effort, Result, World
from tests.benchmarks.watching import resident_mb

TITLE = "As data grows"
ACTIVE, FIRST_CUSTOMERS, FIRST_EVENTS = 5_000, 1_000, 10_000
SLOWER_AT_MOST, INGEST_SLOWER_AT_MOST = 0.20, 0.25
_CASES = (
    Case("noop", "nothing", NOOP, "consume"),
    Case("consume", "consume", CHECK, "consume"),
    Case("events", "1,000 events a request", EVENTS, "events", 1_000, 0, 4),
)
_SWEEP_S = 2.0


@dataclass(frozen=True, slots=True)
class Size:
    """One point of the growth, and what was measured there."""

    customers: int
    events: int
    active: int
    results: Mapping[str, Result]
    resident_mb: float

    @property
    def ratio(self) -> float:
        """Consumes over requests that do nothing."""
        nothing = self.results["noop"].median("requests")
        return self.results["consume"].median("requests") / nothing if nothing else 0.0

    @property
    def ingest(self) -> float:
        """Events of batches over requests that do nothing."""
        nothing = self.results["noop"].median("requests")
        return self.results["events"].median("per_second") / nothing if nothing else 0.0


@dataclass(frozen=True, slots=True)
class Grown:
    """A database that grows."""

    dsn: str
    env: Mapping[str, str]
    gateway_key: str
    pattern_id: int


def measure(chosen: argparse.Namespace, effort: Effort) -> str:
    """Measure, and return the section's text."""
    load_before = os.getloadavg()[0]
    sizes: list[Size] = []
    with measuring.database() as dsn:
        env = measuring.environment(dsn)
        seeded, pattern_id = filling.seed_one(dsn, env)
        grown = Grown(dsn, env, seeded["gateway_key"], pattern_id)
        _first_event(grown, effort, seeded["keys"])
        customers, events = 0, 0
        for customers_to, events_to in _steps(chosen.most_customers, chosen.most_events):
            with psycopg.connect(dsn) as connection:
                span = Span(customers, customers_to)
                filling.add_customers(connection, span=span, pattern_id=grown.pattern_id)
                span = Span(events, events_to)
                filling.add_events(connection, span=span, customers=customers_to)
            customers, events = customers_to, events_to
            sizes.append(_at(grown, effort, customers=customers, events=events))
        memory = _memory(grown, effort, customers=customers)
        told = writing.conditions(
            dsn, load_before=load_before, more=_conditions(effort, dsn, memory)
        )
    return _text(sizes, memory, told=told)


def _steps(most_customers: int, most_events: int) -> list[tuple[int, int]]:
    """Customers grow first, with few events; then events grow, with that many customers."""
    steps = [(FIRST_CUSTOMERS, FIRST_EVENTS)]
    while steps[-1][0] < most_customers:
        steps.append((min(steps[-1][0] * 10, most_customers), FIRST_EVENTS))
    while steps[-1][1] < most_events:
        steps.append((steps[-1][0], min(steps[-1][1] * 10, most_events)))
    return steps


def _first_event(grown: Grown, effort: Effort, keys: list[str]) -> None:
    with measuring.server(grown.env) as (port, process_id):
        world = World(grown.gateway_key, keys, port, process_id)
        short = replace(effort, seconds=0.2, warm_up_s=0.0, connections=1)
        measuring.play(_CASES[1], short, world)


def _at(grown: Grown, effort: Effort, *, customers: int, events: int) -> Size:
    active = min(ACTIVE, customers)
    numbers = random.sample(range(customers), active)
    with psycopg.connect(grown.dsn) as connection:
        keys = filling.give_keys(connection, numbers)
    filling.settle_down(grown.dsn)
    measuring.say(f"-- {customers:,} customers, {events:,} events")
    with measuring.server(grown.env) as (port, process_id):
        world = World(grown.gateway_key, keys, port, process_id)
        measuring.play(_CASES[1], effort, world)  # the copies of the active ones are filled here
        results = measuring.play_rounds(_CASES, effort, world)
        return Size(customers, events, active, results, resident_mb(process_id))


def _memory(grown: Grown, effort: Effort, *, customers: int) -> list[tuple[int, float]]:
    """Resident memory after peeking at so many customers, past what the gate keeps."""
    bound = environment.GATE_COPIES.read()
    most = min(2 * bound, customers)
    with psycopg.connect(grown.dsn) as connection:
        keys = filling.give_keys(connection, range(most))
    filling.settle_down(grown.dsn)
    found = []
    with measuring.server(grown.env) as (port, process_id):
        found.append((0, resident_mb(process_id)))
        for count in sorted({min(each, most) for each in (1_000, bound // 2, bound, 2 * bound)}):
            world = World(grown.gateway_key, keys[:count], port, process_id)
            peek = Case("peek", f"peek at {count:,} customers", CHECK, "peek", 100, connections=8)
            seconds, seen = max(effort.seconds, _SWEEP_S), 0.0
            while seen < count:  # one after the other, until each was seen
                rate = measuring.play(peek, replace(effort, seconds=seconds), world)
                seen = rate["per_second"] * seconds
                seconds *= max(1.2 * count / max(seen, 1.0), 1.0)
            found.append((count, resident_mb(process_id)))
    return found


def _conditions(effort: Effort, dsn: str, memory: list[tuple[int, float]]) -> dict[str, str]:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return {
        "Data": (
            f"customers with key, standing, entitlement and balance, events as the gate writes "
            f"them, made by the database itself; {row[0] / 1e9:.1f} GB at the end"
        ),
        "Load": f"one process, {effort.connections} connections",
        "Each size": (
            f"a server of its own, its copies filled first, then median of {effort.rounds} rounds "
            f"of {effort.seconds:g} seconds"
        ),
        "Copies": f"FAREBOX_GATE_COPIES is {environment.GATE_COPIES.read():,}",
    }


def _text(sizes: list[Size], memory: list[tuple[int, float]], *, told: str) -> str:
    first = sizes[0].ratio
    comparable = next((size for size in sizes if size.active == ACTIVE), sizes[0])
    rows = [
        [
            writing.with_faults(f"{size.customers:,}", size.results["consume"]),
            f"{size.events:,}",
            f"{size.active:,}",
            f"{size.results['consume'].median('requests'):,.0f}",
            f"{size.results['noop'].median('requests'):,.0f}",
            f"{size.ratio:.2f}",
            f"{size.ratio / first - 1:+.0%}" if first else "",
            f"{size.ratio / comparable.ratio - 1:+.0%}" if comparable.ratio else "",
            f"{size.results['events'].median('per_second'):,.0f}",
            f"{size.ingest / comparable.ingest - 1:+.0%}" if comparable.ingest else "",
            f"{size.resident_mb:,.0f} MB",
        ]
        for size in sizes
    ]
    head = ["Customers", "events stored", "active", "consume/s", "nothing/s", "of nothing"]
    to_the_first = f"to the first of {ACTIVE:,} active"
    head += ["to the first", to_the_first, "events/s", to_the_first, "gate's memory"]
    worst = min((size.ratio / comparable.ratio - 1 for size in sizes), default=0.0)
    verdict = writing.judged(worst, floor=-SLOWER_AT_MOST, aim=None)
    to_the_largest = writing.judged(sizes[-1].ratio / first - 1, floor=-SLOWER_AT_MOST, aim=None)
    slowest = min((size.ingest / comparable.ingest - 1 for size in sizes), default=0.0)
    told_of_ingest = writing.judged(slowest, floor=-INGEST_SLOWER_AT_MOST, aim=None)
    remembered = [[f"{count:,}", f"{mb:,.0f} MB"] for count, mb in memory]
    return f"""{writing.table(head, rows)}

Asked: within {SLOWER_AT_MOST:.0%} from the smallest to the largest, which is
{sizes[-1].ratio / first - 1:+.0%} ({to_the_largest}); with {ACTIVE:,} active customers the worst of
all is {worst:+.0%} ({verdict}). Of events in batches of 1,000, over the requests
that do nothing, within {INGEST_SLOWER_AT_MOST:.0%}: the worst is {slowest:+.0%}
({told_of_ingest}). Active customers are drawn from all of them by chance, except where there are
fewer. Events are those there were before each measurement, which
adds its own.

{writing.table(["Customers seen by one gate process", "its resident memory"], remembered)}

{told}"""
