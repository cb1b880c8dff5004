"""What ingest and decisions cost with a long history beside a short one, measured by turns."""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import urllib3

from tests.benchmarks import filling, measuring, storing, writing
from tests.benchmarks.measuring import CHECK, EVENTS, NOOP, Case, Effort, Result, World
from tests.benchmarks.storing import Stored
from tests.benchmarks.watching import resident_mb

TITLE = "A long history"
FEW, ACTIVE = 1_000_000, 5_000
_CASES = (
    Case("noop", "nothing: read the body, answer", NOOP, "consume"),
    Case("consume", "consume", CHECK, "consume"),
    Case("events", "1,000 events a request", EVENTS, "events", 1_000, 0, 4),
    Case("event", "one event a request", EVENTS, "events", 1),
)
_SLOWER_AT_MOST = {"consume": 0.20, "events": 0.25, "event": 0.25}
_STORAGE_FLOOR, _STORAGE_AIM = 250, 150
_SIZES = """
SELECT sum(pg_total_relation_size(inhrelid)), sum(pg_indexes_size(inhrelid))
  FROM pg_inherits WHERE inhparent = 'metering_usageevent'::regclass
"""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: what it holds, its server, and what was measured there."""

    stored: Stored
    dsn: str
    world: World
    results: dict[str, Result]
    bytes_an_event: float
    bytes_of_indexes: float

    def ratios(self, name: str) -> list[float]:
        """A case's rate over that of nothing, round by round."""
        nothing = [found["requests"] for found in self.results["noop"].rounds]
        rates = [found["per_second"] for found in self.results[name].rounds]
        return [rate / least if least else 0.0 for rate, least in zip(rates, nothing, strict=True)]


def measure(chosen: argparse.Namespace, effort: Effort) -> str:
    """Measure, and return the section's text. Raises DiskTooSmall."""
    load_before = os.getloadavg()[0]
    customers, sizes = chosen.history_customers, (FEW, chosen.history_events)
    numbers = random.sample(range(customers), min(ACTIVE, customers))
    with _home(chosen.history_home) as home, ExitStack() as running:
        storing.require_disk(home, customers, sizes)
        filled = [storing.stored(home, customers, events) for events in sizes]
        sides = [running.enter_context(_side(home, each, numbers)) for each in filled]
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
def _home(given: Path | None) -> Iterator[Path]:
    """The folder of the clusters: the one that was given, or one that is removed afterwards."""
    if given is not None:
        given.mkdir(mode=0o711, parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="farebox-bench-") as made:
        home = Path(made)
        home.chmod(0o711)
        try:
            yield home
        finally:
            for each in home.iterdir():
                storing.remove(each)


@contextmanager
def _side(home: Path, stored: Stored, numbers: Sequence[int]) -> Iterator[Side]:
    with storing.cluster(storing.folder(home, stored.events)) as dsn:
        env = measuring.environment(dsn)
        measuring.migrate(env)  # it may have been stored by an older Farebox
        with psycopg.connect(dsn) as connection:
            keys = filling.give_keys(connection, numbers)
            row = connection.execute(_SIZES).fetchone()
        assert row is not None
        filling.settle_down(dsn)
        with measuring.server(env) as (port, process_id):
            _check(dsn, port, stored)
            world = World(stored.gateway_key, keys, port, process_id)
            results = {case.name: Result(case) for case in _CASES}
            per_event = (float(size) / stored.events for size in row)
            yield Side(stored, dsn, world, results, *per_event)


def _check(dsn: str, port: int, stored: Stored) -> None:
    """Events that the database made are those that the gate would have written.

    The view tells them as they would have been reported, and the gate calls them duplicates.
    """
    events = [
        storing.event_of(external_id, subject=f"bench-{number}")
        for number, external_id in stored.known
    ]
    owners = [filling.customer_id(number) for number, _ in stored.known]
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT e.external_id, e.type, e.source, e.properties, c.external_id"
            "  FROM metering_reportedevent AS e JOIN accounts_customer AS c ON c.id = e.customer_id"
            " WHERE e.customer_id = ANY(%s) AND e.external_id = ANY(%s)",
            (owners, [event["id"] for event in events]),
        ).fetchall()
    names = ("id", "type", "source", "data", "subject")
    seen = sorted(tuple(event[name] for name in names) for event in events)
    if sorted(rows) != seen:
        raise AssertionError("the view does not tell what was stored")
    with urllib3.PoolManager() as http:
        headers = {"Authorization": f"Bearer {stored.gateway_key}"}
        url = f"http://127.0.0.1:{port}{EVENTS}"
        answer = http.request("POST", url, json=events, headers=headers)
    if answer.status != 200 or answer.json()["duplicates"] != len(events):
        raise AssertionError(f"the gate does not know what is stored: {answer.data!r}")


def _conditions(effort: Effort, sides: Sequence[Side], memory: Sequence[float]) -> dict[str, str]:
    few, many = sides
    return {
        "Data": (
            f"in each {few.stored.customers:,} customers with key, standing, entitlement and "
            "balance; events with a UUID, a model and a quantity, of customers by chance, received "
            "in 28 days, made by the database itself as the gate writes them"
        ),
        "Indexes": (
            f"of events made after them, pages {storing.INDEX_FULL}% full, which is what entries "
            "that come by chance leave"
        ),
        "Checked": (
            f"{len(many.stored.known)} events of each, by chance: the view tells them as they "
            "would have been reported, and the gate answers that they are duplicates"
        ),
        "Load": (
            f"one process, {effort.connections} connections (4 where a request is a batch), "
            f"{len(many.world.keys):,} active customers by chance, the same in both"
        ),
        "Each case": (
            f"median of {effort.rounds} rounds of {effort.seconds:g} seconds, by turns: in each "
            "round each case at the one and at once at the other, both clusters and both servers "
            "running all the time"
        ),
        "Gates' memory": f"{memory[0]:,.0f} MB with few, {memory[1]:,.0f} MB with many, at the end",
    }


def _text(sides: Sequence[Side], *, told: str) -> str:
    rows = []
    for case in _CASES:
        rates = [side.results[case.name].median("per_second") for side in sides]
        ratios = [statistics.median(side.ratios(case.name)) for side in sides]
        plain = _change(*(_rates(side, case.name) for side in sides))
        to_nothing = _change(*(side.ratios(case.name) for side in sides))
        most = _SLOWER_AT_MOST.get(case.name)
        faults = Result(case, [found for side in sides for found in side.results[case.name].rounds])
        rows.append(
            [
                writing.with_faults(case.title, faults),
                *(f"{rate:,.0f}" for rate in rates),
                f"{plain:+.0%}",
                *(f"{ratio:.2f}" for ratio in ratios),
                f"{to_nothing:+.0%}" if most else "",
                f"-{most:.0%}" if most else "",
                writing.judged(to_nothing, floor=-most, aim=None) if most else "",
            ]
        )
    counts = [f"{side.stored.events:,}" for side in sides]
    head = ["Case, a second", *(f"with {count} events" for count in counts), "change"]
    head += [f"of nothing with {count}" for count in counts]
    head += ["change of that", "floor", ""]
    space = [
        [
            count,
            f"{side.bytes_an_event:.0f} B",
            f"{side.bytes_of_indexes:.0f} B",
            f"{_STORAGE_FLOOR} B",
            f"{_STORAGE_AIM} B",
            writing.judged(side.bytes_an_event, floor=_STORAGE_FLOOR, aim=_STORAGE_AIM, fewer=True),
        ]
        for count, side in zip(counts, sides, strict=True)
    ]
    kept = writing.table(["Events stored", "an event", "of it indexes", "floor", "aim", ""], space)
    return f"""{writing.table(head, rows)}

Changes are of the larger against the smaller in the same round; they, rates and ratios are medians
of the rounds. How much the index by time takes depends on the customers: equal entries, of one
customer and hour, share one, and here a customer has few events an hour.

{kept}

{told}"""


def _rates(side: Side, name: str) -> list[float]:
    return [found["per_second"] for found in side.results[name].rounds]


def _change(few: Sequence[float], many: Sequence[float]) -> float:
    pairs = zip(few, many, strict=True)
    return statistics.median(after / before if before else 0.0 for before, after in pairs) - 1
