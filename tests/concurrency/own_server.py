"""A PostgreSQL of one test module's own, which it may kill: made, migrated, sown, stopped hard.

`python -m tests.concurrency.own_server` is its other half: it migrates the database that
FAREBOX_DATABASE_URL names, sows one customer, and prints its keys as JSON.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from config.embedded.postgres import Cluster

ROOT = Path(__file__).resolve().parents[2]
_AGAIN_S = 0.02


@dataclass
class OwnServer:
    """A durable cluster under a gate's load."""

    cluster: Cluster
    dsn: str = ""
    customer_id: int = 0
    customer_key: str = ""
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
        self.customer_id, self.customer_key = sown["customer"], sown["key"]
        self.gateway_key = sown["gateway_key"]

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
    """Make the tables and one customer with plenty to use."""
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
    customer = make_customer()
    entitle(customer, meter, included=10**12)
    for kind, property_ in (("sum", "size"), ("max", "size"), ("unique", "user")):
        work = Meter.objects.create(
            key=f"work.{kind}",
            event_type="work.done",
            aggregation=kind,
            value_property=property_,
            created_at=now,
        )
        entitle(customer, work, window="lifetime", included=10**12)
    sown = {
        "gateway_key": make_gateway()[1],
        "customer": customer.id,
        "key": make_api_key(customer),
    }
    print(json.dumps(sown))


if __name__ == "__main__":
    main()
