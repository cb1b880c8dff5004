"""Events in batches over HTTP, beside what PostgreSQL takes by COPY into the same table."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Mapping
from dataclasses import replace

import psycopg

from tests.benchmarks import filling, measuring, writing
from tests.benchmarks.measuring import EVENTS, Case, Effort, Result, World

TITLE = "Events"
FLOOR, AIM = 0.25, 0.5
ROLLED_FLOOR, ROLLED_AIM = 0.2, 0.4
LAG_MOST_S = 60.0
LOOKS = 3  # of the worker in one round, at least
_BATCHES = Case("events", "1,000 events a request, 4 connections", EVENTS, "events", 1_000, 0, 4)
_ROLLED = replace(_BATCHES, name="rolled", title=f"{_BATCHES.title}, a worker rolls up meanwhile")
_FEW = replace(_BATCHES, name="few", title=f"{_BATCHES.title}, 100 customers", customers=100)
_LLM = replace(
    _BATCHES,
    name="llm",
    kind="llm",
    title=f"{_BATCHES.title}, each with the data of a model's call",
)
_PLAIN = {
    "copy": "COPY, 20,000 rows a transaction",
    "bulk": "Django's bulk_create(ignore_conflicts), 1,000 rows a transaction",
    "single": "one row an INSERT and a transaction",
}


def measure(chosen: argparse.Namespace, effort: Effort) -> str:
    """Measure, and return the section's text."""
    load_before = os.getloadavg()[0]
    with measuring.database() as dsn:
        env = measuring.environment(dsn)
        measuring.migrate(env)
        seeded = measuring.run_module("seeding", chosen.customers, 0, chosen.customers, env=env)
        with measuring.server(env) as (port, process_id):
            world = World(seeded["gateway_key"], seeded["keys"], port, process_id)
            callers = replace(world, keys=seeded["llm_keys"])
            results: dict[str, Result] = {
                name: Result(_BATCHES) for name in ("events", "rolled", "few", "llm")
            }
            plain: dict[str, list[float]] = {name: [] for name in _PLAIN}
            lags: list[float] = []
            every_s = measuring.run_module("beating", "metering.roll_up", env=env)
            watched = replace(effort, seconds=max(effort.seconds, LOOKS * every_s))
            for _ in range(effort.rounds):
                filling.settle_down(dsn)
                results["events"].rounds.append(measuring.play(_BATCHES, effort, world))
                results["few"].rounds.append(measuring.play(_FEW, effort, world))
                results["llm"].rounds.append(measuring.play(_LLM, effort, callers))
                for name, rate in measuring.run_module("copying", effort.seconds, env=env).items():
                    plain[name].append(rate)
                    measuring.say(f"{_PLAIN[name]:<60} {rate:>10,.0f}/s")
                results["rolled"].rounds.append(_rolled(watched, world, env))
                lags.append(_lag(dsn))
        more = _conditions(
            effort, customers=chosen.customers, every_s=every_s, watched_s=watched.seconds
        )
        told = writing.conditions(dsn, load_before=load_before, more=more)
    rates = {name: statistics.median(found) for name, found in plain.items()}
    return _text(results, rates, lag_s=max(lags), told=told)


def _rolled(effort: Effort, world: World, env: Mapping[str, str]) -> dict[str, float]:
    """The same load while a process rolls up what waits, as often as the beat has it done."""
    command = [sys.executable, "-m", "tests.benchmarks.keeping_up"]
    with measuring.running(command, cwd=measuring.ROOT, env=env):
        return measuring.play(_ROLLED, effort, world)


def _lag(dsn: str) -> float:
    """How long the oldest batch waits to be rolled up, in seconds."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT coalesce(extract(epoch FROM max(created_at) - min(created_at)), 0)"
            " FROM metering_usagebatch"
        ).fetchone()
    assert row is not None
    return float(row[0])


def _conditions(
    effort: Effort, *, customers: int, every_s: float, watched_s: float
) -> dict[str, str]:
    return {
        "Server": "one uvicorn process with uvloop and httptools",
        "Events": (
            f"of one count meter, spread over {customers:,} customers where it does not say "
            "otherwise, each with an id of its own; a model's call has seven properties, whose "
            "tokens are summed by model"
        ),
        "Worker": f"rolls up all that waits every {every_s:g} seconds, as the beat has it",
        "Each case": (
            f"median of {effort.rounds} rounds of {effort.seconds:g} seconds, of {watched_s:g} "
            "with a worker, one after the other"
        ),
    }


def _text(
    results: Mapping[str, Result], plain: Mapping[str, float], *, lag_s: float, told: str
) -> str:
    copy = plain["copy"]
    goals = {"events": (FLOOR, AIM), "rolled": (ROLLED_FLOOR, ROLLED_AIM)}
    titles = {"events": _BATCHES.title, "rolled": _ROLLED.title}
    rows = []
    for name, (floor, aim) in goals.items():
        rate = results[name].median("per_second")
        ratio = rate / copy
        rows.append(
            [
                writing.with_faults(f"over HTTP: {titles[name]}", results[name]),
                f"{rate:,.0f}",
                f"{ratio:.2f}",
                f"{floor:g}",
                f"{aim:g}",
                writing.judged(ratio, floor=floor, aim=aim),
            ]
        )
    for case in (_FEW, _LLM):
        rate = results[case.name].median("per_second")
        title = writing.with_faults(f"over HTTP: {case.title}", results[case.name])
        rows.append([title, f"{rate:,.0f}", f"{rate / copy:.2f}", "", "", ""])
    rows += [
        [title, f"{plain[name]:,.0f}", f"{plain[name] / copy:.2f}", "", "", ""]
        for name, title in _PLAIN.items()
    ]
    return f"""{writing.table(["Case", "events/s", "of COPY", "floor", "aim", ""], rows)}

Over HTTP an event is checked, matched, deduplicated, counted in its balance and written, in one
transaction with its batch; the other rows are only written, without data, into the same table with
its indexes.
When a round with a worker ended, the oldest batch waited {lag_s:.1f} s at most to be rolled up
({LAG_MOST_S:.0f} s are allowed).

{told}"""
