"""A live Farebox for flows: the real gate and Django over HTTP, on the test's own database.

The server is one process for the whole session. Tests that use it commit, as users do; between
them the tables are emptied, while ids and the catalogue's version go on, so that nothing the
server remembers is mistaken for something of the next test.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import urllib3
from django.db import connection
from pytest_django import DjangoDbBlocker, Settings

from billing.payments import client
from billing.payments.simulator import Simulator
from config.quickstart.demonstration.calling import Farebox
from config.quickstart.seed import sow_catalogue
from tests.conftest import ROOT
from tests.factories.accounts import a_gateway, an_operator_key
from tests.flows.settling import settle_everything
from tests.free_ports import free_port

_START_S = 60


@dataclass(frozen=True, slots=True)
class Live:
    """Farebox as its callers see it, with a catalogue and keys of this test."""

    farebox: Farebox
    base_url: str
    operator_key: str
    gateway_key: str
    stripe: Simulator

    def settle(self) -> None:
        """Do what worker and beat would do by now."""
        settle_everything(simulator=self.stripe)


@pytest.fixture(scope="session")
def stripe_of_the_session() -> Iterator[Simulator]:
    """The simulator that the live server is set up with."""
    with Simulator(first_wait=0.01) as simulator:
        yield simulator


@pytest.fixture(scope="session")
def server_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the live server says."""
    return tmp_path_factory.mktemp("server") / "log"


@pytest.fixture(scope="session")
def server(
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    stripe_of_the_session: Simulator,
    server_log: Path,
) -> Iterator[str]:
    """The address of a server process that works on the test database."""
    with django_db_blocker.unblock():
        database = str(connection.settings_dict["NAME"])
    port = free_port()
    base_url = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "FAREBOX_DATABASE_URL": _with_database(os.environ["FAREBOX_DATABASE_URL"], database),
        "FAREBOX_BASE_URL": base_url,
        "FAREBOX_BROKER_URL": "memory://",
        "FAREBOX_STRIPE_API_BASE": stripe_of_the_session.url,
        "FAREBOX_STRIPE_WEBHOOK_SECRET": stripe_of_the_session.webhook_secret,
        "FAREBOX_GATE_DEADLINE_MS": "25000",  # within the callers' own patience
        "FAREBOX_GATE_STATEMENT_TIMEOUT_MS": "20000",
    }
    command = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", str(port)]
    command += ["--loop", "uvloop", "--http", "config.shortcut:ShortcutProtocol", "--no-access-log"]
    with server_log.open("wb") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said)
    try:
        _await(base_url, process, log=lambda: server_log.read_text(errors="replace"))
        yield base_url
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def live(
    transactional_db: None,
    server: str,
    server_log: Path,
    stripe_of_the_session: Simulator,
    settings: Settings,
) -> Iterator[Live]:
    """A live Farebox with the example catalogue, an operator's and a gateway's key.

    What the server says meanwhile is shown with a test that fails.
    """
    said_before = server_log.stat().st_size
    simulator = stripe_of_the_session
    simulator.reset()
    simulator.send_webhooks_to(f"{server}/api/v1/stripe/webhook")
    settings.STRIPE_API_KEY = ""
    settings.STRIPE_API_BASE = simulator.url
    settings.STRIPE_WEBHOOK_SECRET = simulator.webhook_secret
    settings.CLOSE_GRACE_S = 0
    client.forget()
    sow_catalogue(now=datetime.now(UTC))
    operator_key, gateway_key = an_operator_key()[1].text, a_gateway()[1].text
    farebox = Farebox(
        server, operator_key=operator_key, gateway_key=gateway_key, stripe_url=simulator.url
    )
    with closing(farebox):
        yield Live(farebox, server, operator_key, gateway_key, simulator)
    client.forget()
    with server_log.open(errors="replace") as said:
        said.seek(said_before)
        sys.stdout.write(said.read())


def _with_database(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


def _await(base_url: str, process: subprocess.Popen[bytes], *, log: Callable[[], str]) -> None:
    deadline = time.monotonic() + _START_S
    with urllib3.PoolManager(retries=False, timeout=5) as http:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise AssertionError(f"the server ended: {log()[-2000:]}")
            try:
                if http.request("GET", f"{base_url}/healthz").status == 200:
                    return
            except urllib3.exceptions.HTTPError:
                time.sleep(0.05)  # between two looks: there is no other sign of a port that opens
    raise AssertionError(f"the server did not answer: {log()[-2000:]}")
