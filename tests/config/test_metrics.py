"""What Prometheus is shown: every decision, and by every process of a machine the same."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import urllib3
from django.db import connection, transaction
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from accounts.operations.versions import bump
from metering.gate import engine
from metering.models import Balance, Hold
from metering.operations.expiring import expire_holds
from tests.free_ports import free_port
from tests.metering.gate.client import GateProcess, make_api_key
from tests.metering.gate.conftest import (
    World,
    change,
    entitle,
    gate,
    make_customer,
    past,
    world,
)

__all__ = ["gate", "world"]
pytestmark = pytest.mark.django_db(transaction=True)
STATUSES = ("200", "500", "503")
ROOT = Path(__file__).resolve().parents[2]
Seen = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Seen:
    """Samples by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape() -> Seen:
    """What this process shows."""
    answer = Client().get("/metrics")
    assert answer.status_code == 200
    return read(answer.content.decode())


class Rise:
    """How much samples rose since it was made."""

    def __init__(self) -> None:
        self._before = scrape()

    def decisions(self) -> dict[tuple[str, str], int]:
        """By mode and code, those that rose."""
        return {
            (dict(labels)["mode"], dict(labels)["code"]): int(risen)
            for (name, labels), value in scrape().items()
            if name == "farebox_gate_decisions_total"
            and (risen := value - self._before.get((name, labels), 0))
        }

    def of(self, name: str, **labels: str) -> int:
        """Of one sample."""
        key = name, frozenset(labels.items())
        return int(scrape().get(key, 0) - self._before.get(key, 0))


def test_decisions_are_counted_by_mode_and_code(world: World) -> None:
    rise = Rise()
    world.check()
    consume = {"mode": "consume", "id": "one", "quantity": 10}
    world.check(**consume)
    world.check(**consume)
    held = world.check(mode="hold", id="two", quantity=10)
    world.gate.send("POST", f"/api/v1/holds/{held.body['hold']['id']}/settle", {"quantity": 3})
    world.check(mode="consume", id="three", quantity=5_000)
    change(world.customer, deny_code="payment_failed", deny_at=world.customer.created_at)
    world.check()
    world.check(meter="nothing")
    world.gate.check({"customer": "nobody", "meter": "api.calls"})

    assert rise.decisions() == {
        ("peek", "allowed"): 1,
        ("consume", "allowed"): 2,
        ("hold", "allowed"): 1,
        ("settle", "allowed"): 1,
        ("consume", "quota_exhausted"): 1,
        ("peek", "payment_failed"): 1,
        ("peek", "meter_unknown"): 1,
        ("peek", "customer_unknown"): 1,
    }
    assert rise.of("farebox_gate_replays_total") == 1
    for each in ("batch_calls", "queue_seconds", "transaction_seconds", "round_seconds"):
        assert rise.of(f"farebox_gate_{each}_count") > 0


def test_what_becomes_of_events_is_counted(world: World) -> None:
    rise = Rise()
    event = {"specversion": "1.0", "source": "app", "type": "api.call", "subject": world.key}
    sent = [event | {"id": id_} for id_ in ("a", "b", "a")]
    sent.append(event | {"id": "c", "type": "no.such"})
    assert world.gate.send("POST", "/api/v1/events", sent).body["accepted"] == 2
    outcomes = {
        o: rise.of("farebox_gate_events_total", outcome=o) for o in ("accepted", "duplicate")
    }
    assert outcomes == {"accepted": 2, "duplicate": 1}


def test_the_holds_of_the_sweep_are_counted_apart_from_those_that_a_gate_met(world: World) -> None:
    rise = Rise()
    for swept in (1, 2):
        assert world.check(mode="hold", id=f"forgotten-{swept}", quantity=10).status == 200
        with transaction.atomic():
            bump(world.customer.id)
            Hold.objects.filter(state="open").update(expires_at=past(1))
        assert expire_holds(now=past(0), limit=10) == 1
        assert rise.of("farebox_swept_holds_total") == swept
    assert rise.of("farebox_gate_expired_holds_total") == 0


def test_what_makes_calls_slow_or_fail_is_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert world.check(mode="hold", id="forgotten", quantity=10).status == 200
    rise = Rise()
    with transaction.atomic():  # behind the back of the gate's copy
        bump(world.customer.id)
        Hold.objects.update(expires_at=past(1))
    assert world.check(mode="consume", id="again").status == 200
    assert rise.of("farebox_gate_lost_total") == 1
    assert rise.of("farebox_gate_expired_holds_total") == 1

    monkeypatch.setattr(engine, "LOSSES_BEFORE_LOCK", 0)
    assert world.check(mode="consume", id="locked").status == 200
    assert rise.of("farebox_gate_lock_seconds_count") == 1

    poisoned = make_customer()
    entitle(poisoned, world.calls, unlimited=True)
    bad = {"key": make_api_key(poisoned), "meter": "api.calls", "mode": "consume"}
    assert world.gate.check(bad | {"id": "1"}).status == 200
    with transaction.atomic():  # more than a bigint takes: PostgreSQL refuses the write
        Balance.objects.filter(customer_id=poisoned.id).update(used=2**63 - 1)
        bump(poisoned.id)
    good = {"key": world.key, "meter": "api.calls"}
    told = world.gate.together(("/api/v1/check", bad | {"id": "2"}), ("/api/v1/check", good))
    assert [each.status for each in told] == [500, 200]
    assert rise.of("farebox_gate_splits_total") >= 1

    full = GateProcess(queue=1, batch=1)
    full.key = world.gate.key
    try:
        told = full.together(*[("/api/v1/check", good)] * 8)
    finally:
        full.stop()
    refused = sum(each.status == 503 for each in told)
    assert refused
    assert rise.of("farebox_gate_overloaded_total") == refused
    answers = {s: rise.of("farebox_gate_answers_total", path="check", status=s) for s in STATUSES}
    assert answers == {"200": 4 + 8 - refused, "500": 1, "503": refused}
    assert rise.of("farebox_gate_answer_seconds_count") == sum(answers.values())


@pytest.mark.slow
def test_workers_show_what_all_of_them_counted(world: World, tmp_path: Path) -> None:
    port = free_port()
    address = urlsplit(os.environ["FAREBOX_DATABASE_URL"])
    address = address._replace(path=f"/{connection.settings_dict['NAME']}")
    environment = os.environ | {
        "FAREBOX_DATABASE_URL": urlunsplit(address),
        "FAREBOX_BASE_URL": f"http://127.0.0.1:{port}",
        "FAREBOX_BROKER_URL": "memory://",
        "FAREBOX_METRICS_DIR": str(tmp_path / "metrics"),
    }
    command = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", str(port)]
    command += ["--http", "config.shortcut:ShortcutProtocol", "--workers", "2", "--no-access-log"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        seen, asked = _ask_until_both_answered(port, world, tmp_path / "metrics")
    finally:
        process.terminate()
        process.wait(30)
    assert seen == {asked}


def _ask_until_both_answered(port: int, world: World, folder: Path) -> tuple[set[int], int]:
    headers = {"authorization": f"Bearer {world.gate.key}", "content-type": "application/json"}
    body = b'{"key": "%s", "meter": "api.calls"}' % world.key.encode()
    asked, deadline = 0, time.monotonic() + 60
    served: Counter[str] = Counter()
    # Each request has a connection of its own, so that either worker may get it.
    with urllib3.PoolManager(retries=False, timeout=20, headers={"connection": "close"}) as http:
        while len(served) < 2:
            assert time.monotonic() < deadline, "only one worker was ever asked"
            try:
                answer = http.request(
                    "POST",
                    f"http://127.0.0.1:{port}/api/v1/check",
                    body=body,
                    headers=headers | {"connection": "close"},
                )
            except urllib3.exceptions.HTTPError:
                time.sleep(0.05)  # nobody listens yet
                continue
            assert answer.status == 200, answer.data
            asked += 1
            # A request id begins with what its process chose when it started.
            served[answer.headers["x-request-id"][:24]] += 1
        shown = set()
        for _ in range(8):
            text = http.request("GET", f"http://127.0.0.1:{port}/metrics").data.decode()
            allowed = frozenset({("mode", "peek"), ("code", "allowed")})
            shown.add(int(read(text)["farebox_gate_decisions_total", allowed]))
    assert len(list(folder.glob("counter_*.db"))) >= 2
    return shown, asked
