"""What closing costs: periods drafted and issued, and the memory of the worker that does it."""

from __future__ import annotations

import argparse
import os
from typing import Any

from tests.benchmarks import measuring, writing
from tests.benchmarks.measuring import Effort

TITLE = "Closing"
SUBSCRIPTIONS = 10_000  # what floor and aim are for
FLOOR_S, AIM_S = 60, 15


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
            found.append((size, measuring.run_module("closing_work", "close", env=env)))
            measuring.say(f"{size:,} subscriptions: {found[-1][1]}")
            reached, size = reached + size, size * 10
        told = writing.conditions(
            dsn,
            load_before=load_before,
            more={
                "Subscriptions": "a fee and five meters of three tiers, ten buckets of usage each; "
                "one worker, pieces of 200, Stripe not asked",
                "Memory": "of the worker's process when all are issued, and what it grew by",
            },
        )
    return _text(found, told=told)


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
                f"{each['resident_mb']:.0f} MB",
                f"{each['grown_mb']:+.0f} MB",
            ]
        )
    head = [
        "subscriptions",
        "drafted in",
        "issued in",
        "together",
        "invoices/s",
        "floor",
        "aim",
        "",
    ]
    return f"""{writing.table([*head, "memory", "grown"], rows)}

{told}"""
