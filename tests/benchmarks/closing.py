"""What closing costs: periods drafted and issued, and the memory of the worker that does it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.benchmarks import measuring, writing
from tests.benchmarks.measuring import Effort

TITLE = "Closing"
SUBSCRIPTIONS = 10_000  # what floor and aim are for
FLOOR_S, AIM_S = 60, 15
WORKERS = 2
BATCH, AT_ONCE = 200, 100  # as in billing/tasks.py and billing/operations/locking.py


def measure(chosen: argparse.Namespace, effort: Effort) -> str:
    """Measure, and return the section's text."""
    load_before = os.getloadavg()[0]
    found: list[tuple[int, dict[str, Any]]] = []
    with measuring.database() as dsn:
        env = measuring.environment(dsn)
        measuring.migrate(env)
        reached, size = 0, 1_000
        while size <= chosen.most_subscriptions:
            measuring.run_module("closing_work", "seed", reached + 1, reached + size, env=env)
            found.append((size, _closed(env)))
            measuring.run_module("closing_work", "check", env=env)
            measuring.say(f"{size:,} subscriptions: {found[-1][1]}")
            reached, size = reached + size, size * 10
        told = writing.conditions(
            dsn,
            load_before=load_before,
            more={
                "Subscriptions": "a fee and five meters of three tiers, ten buckets of usage each; "
                f"{WORKERS} workers, pieces of {BATCH}, {AT_ONCE} customers in a transaction, "
                "Stripe not asked",
                "CPU": "of the workers, without PostgreSQL's, for one invoice drafted and issued",
                "Memory": "of the larger worker when all are issued, and what it grew by",
            },
        )
    return _text(found, told=told)


def _closed(env: Mapping[str, str]) -> dict[str, Any]:
    """Close and issue everything that waits, by some workers at once."""
    took = {}
    together: list[dict[str, Any]] = []
    for what in ("close", "issue"):
        with ThreadPoolExecutor(WORKERS) as pool:
            runs = [
                pool.submit(measuring.run_module, "closing_work", what, env=env)
                for _ in range(WORKERS)
            ]
            each = [run.result() for run in runs]
        took[what] = max(one["ended_at"] for one in each) - min(one["began_at"] for one in each)
        together += each
    issued = sum(one["done"] for one in each)
    return {
        "closing_s": took["close"],
        "issuing_s": took["issue"],
        "invoices": issued,
        "cpu_ms": 1_000 * sum(one["cpu_s"] for one in together) / issued,
        "statements": sum(one["statements"] for one in together) / issued,
        "resident_mb": max(one["resident_mb"] for one in together),
        "grown_mb": max(one["grown_mb"] for one in together),
    }


def _text(found: list[tuple[int, dict[str, Any]]], *, told: str) -> str:
    rows = []
    for size, each in found:
        seconds = each["closing_s"] + each["issuing_s"]
        goal = size == SUBSCRIPTIONS
        rows.append(
            [
                f"{size:,}",
                f"{each['closing_s']:.1f} s",
                f"{each['issuing_s']:.1f} s",
                f"{seconds:.1f} s",
                f"{each['invoices'] / seconds:,.0f}",
                f"{FLOOR_S} s" if goal else "",
                f"{AIM_S} s" if goal else "",
                writing.judged(seconds, floor=FLOOR_S, aim=AIM_S, fewer=True) if goal else "",
                f"{each['cpu_ms']:.1f} ms",
                f"{each['statements']:.2f}",
                f"{each['resident_mb']:.0f} MB",
                f"{each['grown_mb']:+.0f} MB",
            ]
        )
    head = [
        *("subscriptions", "drafted in", "issued in", "together", "invoices/s", "floor", "aim", ""),
        *("CPU each", "statements each", "memory", "grown"),
    ]
    return f"""{writing.table(head, rows)}

{told}"""
