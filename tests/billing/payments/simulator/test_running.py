"""Running it: state in a file, the command line, speed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import stripe

from billing.payments.simulator import Simulator
from tests.billing.payments.simulator.conftest import client_of, issued, with_card
from tests.free_ports import free_port

ROOT = Path(__file__).resolve().parents[4]


def test_state_outlives_the_process(tmp_path: Path) -> None:
    path = str(tmp_path / "stripe.sqlite3")
    http = stripe.RequestsClient(timeout=5)
    with Simulator(database=path, webhook="http://127.0.0.1:9/hook") as first:
        client = client_of(first, http)
        customer = client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k"})
        with_card(client, customer, "pm_card_chargeCustomerFail")
        invoice = issued(client, customer, 1000)
        first.advance(100)
        now = first.now()
    with Simulator(database=path, webhook="http://127.0.0.1:9/hook") as second:
        client = client_of(second, http)
        assert second.now() >= now
        again = client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k"})
        assert again.id == customer.id
        assert len(second.all("webhook_endpoint")) == 1
        second.advance(86_400)
        assert client.v1.invoices.retrieve(invoice.id).attempt_count == 2
    http.close()  # type: ignore[no-untyped-call]


def test_the_command_serves_and_stops(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "billing.payments.simulator", "--port", str(port)]
    command += ["--database", str(tmp_path / "s.sqlite3"), "--secret", "whsec_x", "--key"]
    began = time.monotonic()
    with subprocess.Popen(
        [*command, "sk_test_cli"],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "not.there"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        assert time.monotonic() - began < 10
        http = stripe.RequestsClient(timeout=5)
        client = stripe.StripeClient(
            "sk_test_cli",
            base_addresses={"api": f"http://127.0.0.1:{port}"},
            http_client=http,
        )
        assert client.v1.customers.create({"name": "Ada"}).name == "Ada"
        http.close()  # type: ignore[no-untyped-call]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) in (0, -signal.SIGTERM)


def test_a_taken_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "billing.payments.simulator", "--port", port],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert port in done.stderr


def test_it_needs_neither_django_nor_the_stripe_library() -> None:
    source = (
        "import sys, billing.payments.simulator as s;"
        "loaded = {name.split('.')[0] for name in sys.modules};"
        "sys.exit(bool(loaded & {'django', 'stripe', 'requests'}))"
    )
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, check=False, timeout=20)
    assert done.returncode == 0


def test_calls_are_fast(simulator: Simulator) -> None:
    http = stripe.RequestsClient(timeout=5)
    client = client_of(simulator, http)
    began = time.process_time()
    for _ in range(50):
        client.v1.customers.create({"name": "Ada"})
    assert (time.process_time() - began) / 50 < 0.02
    http.close()  # type: ignore[no-untyped-call]
