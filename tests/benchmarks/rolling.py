"""What rolling up costs, what asking for a year of usage costs, and what an event takes on disk."""

from __future__ import annotations

import argparse
import os
from typing import Any

import psycopg

from tests.benchmarks import measuring, writing
from tests.benchmarks.measuring import Effort

TITLE = "Roll-ups, usage and storage"
_YEAR_EVENTS = 100_000_000
_SPEED = ("150,000", "300,000")


def measure(chosen: argparse.Namespace, effort: Effort) -> str:
    """Measure, and return the section's text."""
    load_before = os.getloadavg()[0]
    with measuring.database() as dsn:
        env = measuring.environment(dsn)
        measuring.migrate(env)
        found = measuring.run_module("rolling_work", effort.rounds, _YEAR_EVENTS, env=env)
        with psycopg.connect(dsn) as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None
        told = writing.conditions(
            dsn,
            load_before=load_before,
            more={
                "Batches": "of 1,000 events each, as a gate leaves them under load; one worker",
                "Year": f"{found['hours']:,} hours by 10 models for one customer, "
                f"{_YEAR_EVENTS:,} events in them; {row[0] / 1e9:.1f} GB in all",
                "Events": f"{found['stored']:,}, with a model and a quantity as properties",
            },
        )
    return _text(found, told=told)


def _ms(value: float) -> str:
    return f"{value:.1f} ms"


def _text(found: dict[str, Any], *, told: str) -> str:
    rate = writing.judged(found["few"], floor=150_000, aim=300_000)
    days = writing.judged(found["by_day_ms"], floor=50, aim=10, fewer=True)
    size = writing.judged(found["bytes"], floor=250, aim=150, fewer=True)
    many = writing.judged(found["many"], floor=150_000, aim=300_000)
    rows = [
        ["roll-up, 10 events a bucket, events/s", f"{found['few']:,.0f}", *_SPEED, rate],
        ["roll-up, every event a bucket of its own", f"{found['many']:,.0f}", *_SPEED, many],
        ["days made of hours, hours/s", f"{found['days']:,.0f}", "", "", ""],
        ["a year by day and model, one customer", _ms(found["by_day_ms"]), "50 ms", "10 ms", days],
        ["the same as one total", _ms(found["total_ms"]), "", "", ""],
        ["the same by day from hours only", _ms(found["from_hours_ms"]), "", "", ""],
        ["an event with its indexes", f"{found['bytes']:.0f} B", "250 B", "150 B", size],
    ]
    return f"""{writing.table(["Work", "measured", "floor", "aim", ""], rows)}

{told}"""
