"""A PostgreSQL of one test module's own, which it may kill: made, migrated, sown, stopped hard.

`python -m tests.concurrency.own_server` is its other half: it migrates the database that
FAREBOX_DATABASE_URL names, sows customers, and prints their keys as JSON.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from config.embedded.postgres import Cluster

ROOT = Path(__file__).resolve().parents[2]
_AGAIN_S = 0.02
_CUSTOMERS = 4
# The meters of work.done, work.sum and so on: by what each of them counts.
WORK = {"sum": "size", "max": "size", "latest": "size", "unique": "user"}


@dataclass
class OwnServer:
    """A durable cluster under a gate's load."""

    cluster: Cluster
    dsn: str = ""
    customer_ids: list[int] = field(default_factory=list)
    customer_keys: list[str] = field(default_factory=list)
    gateway_key: str = ""

    def make(self) -> None:
        """Start it, make the tables, and sow."""
        self.cluster.start()
        self.dsn = self.cluster.dsn
        done = subprocess.run(
            [sys.executable, "-m", "tests.concurrency.own_server"],
            cwd=ROOT,
            env=os.environ | {"FAREBOX_DATABASE_URL": self.dsn},
            capture_output=True,
            text=True,
            check=True,
        )
        sown = json.loads(done.stdout)
        self.customer_ids, self.customer_keys = sown["customers"], sown["keys"]
        self.gateway_key = sown["gateway_key"]

    @property
    def customer_id(self) -> int:
        """The first customer."""
        return self.customer_ids[0]

    @property
    def customer_key(self) -> str:
        """The first customer's key."""
        return self.customer_keys[0]

    @contextmanager
    def cursor(self) -> Iterator[psycopg.Cursor[Any]]:
        """A connection of its own for looking."""
        with psycopg.connect(self.dsn, autocommit=True) as connection, connection.cursor() as found:
            yield found

    def processes(self) -> list[int]:
        """The server and its children, those that serve first and the server itself last."""
        pid = self.cluster.pid
        assert pid is not None
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [*map(int, listed), pid]

    def kill(self) -> None:
        """kill -9 the server, as a crash would; returns when all of it is gone."""
        family = self.processes()
        os.kill(family[-1], signal.SIGKILL)
        deadline = time.monotonic() + 20
        while any(map(_serves, family)):  # its children see that it died, and end
            assert time.monotonic() < deadline, "a process of the server lives on"
            time.sleep(_AGAIN_S)
        self.cluster.stop()

    def start_again(self) -> None:
        """Start it where it was; returns when it accepts connections."""
        self.cluster.start()
        assert self.cluster.dsn == self.dsn


def _serves(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # of the cluster's own child nobody has taken the status yet


def main() -> None:
    """Make the tables and customers with plenty to use."""
    import django

    django.setup()
    from django.core.management import call_command
    from django.utils import timezone

    from metering.models import Meter
    from metering.operations.partitioning import make_partitions
    from tests.metering.gate.client import make_api_key, make_gateway
    from tests.metering.gate.conftest import entitle, make_customer

    call_command("migrate", verbosity=0)
    call_command("prepare_broker", stdout=io.StringIO())
    now = timezone.now()
    make_partitions(now=now)
    meter = Meter.objects.create(
        key="api.calls", event_type="api.call", aggregation="count", created_at=now
    )
    customers = [make_customer() for _ in range(_CUSTOMERS)]
    for customer in customers:
        entitle(customer, meter, included=10**12)
    for kind, property_ in WORK.items():
        work = Meter.objects.create(
            key=f"work.{kind}",
            event_type="work.done",
            aggregation=kind,
            value_property=property_,
            dimensions=["model"],
            created_at=now,
        )
        for customer in customers:
            entitle(customer, work, window="lifetime", included=10**12)
    sown = {
        "gateway_key": make_gateway()[1],
        "customers": [customer.id for customer in customers],
        "keys": [make_api_key(customer) for customer in customers],
    }
    print(json.dumps(sown))


if __name__ == "__main__":
    main()
