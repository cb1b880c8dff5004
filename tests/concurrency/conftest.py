"""The gate and the customer of the gate's own tests, and a PostgreSQL that may be killed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.embedded.postgres import Cluster
from tests.concurrency.own_server import OwnServer
from tests.metering.gate.conftest import gate, world

__all__ = ["gate", "world"]


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    """A durable PostgreSQL with one customer, and the broker in it."""
    with tempfile.TemporaryDirectory(prefix="farebox-own-") as folder:
        if os.geteuid() == 0:
            Path(folder).chmod(0o711)  # the server's account must pass through
        made = OwnServer(Cluster(Path(folder) / "home", durable=True))
        try:
            made.make()
            yield made
        finally:
            made.cluster.destroy()
