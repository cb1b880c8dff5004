"""What calls cost beside many closed holds, and beside few, measured by turns."""

from __future__ import annotations

import argparse
import os
import random
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psycopg
import urllib3

from accounts.domain import ids
from tests.benchmarks import filling, measuring, writing
from tests.benchmarks.bodies import METER
from tests.benchmarks.filling import Span
from tests.benchmarks.measuring import CHECK, NOOP, Case, Effort, Result, World
from tests.benchmarks.watching import resident_mb

TITLE = "Many closed holds"
FEW = 10_000
CUSTOMERS, ACTIVE = 100_000, 5_000
SLOWER_AT_MOST = 0.20
_CASES = (
    Case("noop", "nothing: read the body, answer", NOOP, "consume"),
    Case("consume", "consume", CHECK, "consume"),
    Case("hold", "hold and settle (a pair is two requests)", CHECK, "hold"),
)
_KEPT = "31 days"  # since when they were closed: about as long as they are kept
_KNOWN = 20  # holds that are asked for at the gate
_SIZE = "SELECT pg_total_relation_size('metering_hold'), count(*) FROM metering_hold"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: its closed holds, its server, and what was measured there."""

    holds: int
    dsn: str
    world: World
    bytes_a_hold: float
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
    load_before = os.getloadavg()[0]
    numbers = random.sample(range(CUSTOMERS), min(ACTIVE, CUSTOMERS))
    with ExitStack() as running:
        sides = [
            running.enter_context(_side(holds, numbers)) for holds in (FEW, chosen.closed_holds)
        ]
        for side in sides:
            measuring.play(_CASES[1], effort, side.world)  # the copies are filled here
        for number in range(effort.rounds):
            for case in _CASES:
                for side in sides if number % 2 == 0 else reversed(sides):
                    side.results[case.name].rounds.append(measuring.play(case, effort, side.world))
        memory = [resident_mb(side.world.process_id) for side in sides]
        told = writing.conditions(
            sides[-1].dsn, load_before=load_before, more=_conditions(effort, sides, memory)
        )
    return _text(sides, told=told)


@contextmanager
def _side(holds: int, numbers: Sequence[int]) -> Iterator[Side]:
    measuring.say(f"-- filling: {CUSTOMERS:,} customers, {holds:,} closed holds")
    with measuring.database() as dsn:
        env = measuring.environment(dsn)
        seeded, pattern_id = filling.seed_one(dsn, env)
        key = seeded["gateway_key"]
        _hold_and_settle(env, key, pattern_id)
        with psycopg.connect(dsn) as connection:
            span = Span(0, CUSTOMERS)
            filling.add_customers(connection, span=span, pattern_id=pattern_id)
            _add_holds(connection, holds)
            keys = filling.give_keys(connection, numbers)
            row = connection.execute(_SIZE).fetchone()
        assert row is not None
        filling.settle_down(dsn)
        with measuring.server(env) as (port, process_id):
            _check(dsn, port, key)
            world = World(key, keys, port, process_id)
            results = {case.name: Result(case) for case in _CASES}
            yield Side(holds, dsn, world, row[0] / row[1], results)


def _hold_and_settle(env: dict[str, str], gateway_key: str, customer_id: int) -> None:
    """Let the gate write the hold that all others are like."""
    asked = {"customer": ids.encode("cus", customer_id), "meter": METER, "quantity": 1}
    headers = {"Authorization": f"Bearer {gateway_key}"}
    with measuring.server(env) as (port, _), urllib3.PoolManager() as http:
        base = f"http://127.0.0.1:{port}"
        body = asked | {"mode": "hold", "id": "bench-first"}
        held = http.request("POST", f"{base}{CHECK}", json=body, headers=headers)
        assert held.status == 200, held.data
        url = f"{base}/api/v1/holds/{held.json()['hold']['id']}/settle"
        settled = http.request("POST", url, json={"quantity": 1}, headers=headers)
        assert settled.status == 200, settled.data


def _add_holds(connection: psycopg.Connection, count: int) -> None:
    """Closed holds like the one that is there, of customers by chance, closed at any time since
    they are kept. Balances and events do not have them: they are history that nobody asks for.
    """
    ago = f"n * (interval '{_KEPT}' / {count})"
    given = {
        "customer_id": filling.customer_by_chance(CUSTOMERS),
        "id": "gen_random_uuid()",
        "external_id": "'bench-hold-' || n",
        **{name: f"p.{name} - {ago}" for name in ("opened_at", "expires_at", "closed_at")},
    }
    filling.multiply(
        connection,
        "metering_hold",
        given,
        span=Span(1, count),
        pattern="external_id = 'bench-first'",
    )


def _check(dsn: str, port: int, gateway_key: str) -> None:
    """Holds that the database made are those that the gate knows as settled."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT customer_id, id FROM metering_hold WHERE external_id <> 'bench-first' LIMIT %s",
            (_KNOWN,),
        ).fetchall()
    headers = {"Authorization": f"Bearer {gateway_key}"}
    with urllib3.PoolManager() as http:
        for customer_id, key in rows:
            hold = ids.encode_owned("hold", customer_id=customer_id, key=key)
            url = f"http://127.0.0.1:{port}/api/v1/holds/{hold}"
            answer = http.request("GET", url, headers=headers)
            if answer.status != 200 or answer.json()["hold"]["state"] != "settled":
                raise AssertionError(f"the gate does not know what is stored: {answer.data!r}")


def _conditions(effort: Effort, sides: Sequence[Side], memory: Sequence[float]) -> dict[str, str]:
    many = sides[-1]
    return {
        "Data": (
            f"in each {CUSTOMERS:,} customers with key, standing, entitlement and balance; holds "
            f"that were settled in the last {_KEPT}, of customers by chance, made by the database "
            f"itself as the gate writes them, {many.bytes_a_hold:.0f} B each with its indexes"
        ),
        "Checked": f"{_KNOWN} of each: the gate answers that they are settled",
        "Load": (
            f"one process, {effort.connections} connections, {len(many.world.keys):,} active "
            "customers by chance, the same in both"
        ),
        "Each case": (
            f"median of {effort.rounds} rounds of {effort.seconds:g} seconds, by turns: in each "
            "round each case at the one and at once at the other, both clusters and both servers "
            "running all the time"
        ),
        "Gates' memory": f"{memory[0]:,.0f} MB with few, {memory[1]:,.0f} MB with many, at the end",
    }


def _text(sides: Sequence[Side], *, told: str) -> str:
    few, many = sides
    rows = []
    for case in _CASES:
        compared = case.name != "noop"
        change = _change(few.ratios(case.name), many.ratios(case.name))
        seen = [found for side in sides for found in side.results[case.name].rounds]
        rows.append(
            [
                writing.with_faults(case.title, Result(case, seen)),
                *(f"{statistics.median(side.rates(case.name)):,.0f}" for side in sides),
                f"{_change(few.rates(case.name), many.rates(case.name)):+.0%}",
                *(f"{statistics.median(side.ratios(case.name)):.2f}" for side in sides),
                f"{change:+.0%}" if compared else "",
                f"-{SLOWER_AT_MOST:.0%}" if compared else "",
                writing.judged(change, floor=-SLOWER_AT_MOST, aim=None) if compared else "",
            ]
        )
    counts = [f"{side.holds:,}" for side in sides]
    head = ["Case, requests a second", *(f"with {count}" for count in counts), "change"]
    head += [*(f"of nothing with {count}" for count in counts), "change of that", "floor", ""]
    return f"""{writing.table(head, rows)}

Changes are of the larger against the smaller in the same round; they, rates and ratios are medians
of the rounds. Each measurement adds the holds that it settles itself to those that were there.

{told}"""


def _change(few: Sequence[float], many: Sequence[float]) -> float:
    pairs = zip(few, many, strict=True)
    return statistics.median(after / before if before else 0.0 for before, after in pairs) - 1
