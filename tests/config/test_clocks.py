"""A worker whose clock is off does nothing by it, and all of it when the clock is set right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from accounts.models import Heartbeat
from config.celery import BEAT, app
from config.clocks import TIMELESS
from metering import tasks
from metering.models import Hold, Rollup
from tests.factories.metering import make_customer, make_entitlement, make_meter, open_hold, report

pytestmark = pytest.mark.django_db
APART = timedelta(seconds=300)


class Clock(datetime):
    """The clock of the worker, as far off as it is set."""

    off = timedelta(0)

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.now(tz) + cls.off


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Clock]]:
    for module in ("config.clocks", "config.tasks", "metering.tasks"):
        monkeypatch.setattr(f"{module}.datetime", Clock)
    yield Clock
    Clock.off = timedelta(0)


def said() -> tuple[str, int]:
    """What /readyz says of workers, and how many refused tasks /metrics counts."""
    client = Client()
    verdict = json.loads(client.get("/readyz").content)["checks"]["worker"]
    lines = client.get("/metrics").content.decode().splitlines()
    (count,) = [each for each in lines if each.startswith("farebox_clock_refused_tasks_total ")]
    return verdict, int(float(count.split()[1]))


@pytest.mark.parametrize("off", [2 * APART, -2 * APART, timedelta(days=40)])
def test_no_task_is_done_by_a_clock_that_is_off(clock: type[Clock], off: timedelta) -> None:
    app.loader.import_default_modules()
    customer, meter, now = make_customer(), make_meter(), datetime.now(UTC)
    make_entitlement(customer, meter)
    open_hold(customer, meter, 5, at=now - timedelta(hours=1))
    report(customer, meter, 5, at=now)
    tasks.make_partitions()
    app.tasks["config.beat_heart"]()
    assert said() == ("ok", 0)
    beaten = Heartbeat.objects.get(name="worker").at

    clock.off = off
    timed = [name for name in BEAT if name not in TIMELESS]
    assert len(timed) == len(BEAT) - 1
    for name in timed:
        assert app.tasks[name]() is None
    assert tasks.expire_holds.apply().get() is None  # as a worker calls it
    assert Hold.objects.get().state == "open"
    assert Heartbeat.objects.get(name="worker").at == beaten
    assert said() == (
        "the clock of one is too far from the database's: see its log",
        len(timed) + 1,
    )
    assert tasks.roll_up() == 1  # asks for no time
    assert Rollup.objects.get().quantity == 5

    clock.off = APART / 2
    assert tasks.expire_holds() == 1
    assert Hold.objects.get().state == "expired"


def test_the_log_says_what_to_do(
    clock: type[Clock], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    clock.off = 2 * APART
    tasks.expire_holds()
    told = "".join(capsys.readouterr()) + caplog.text
    assert "task.refused" in told
    assert "600 s ahead of the database's" in told
    assert "Set right the clock" in told
