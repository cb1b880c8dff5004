"""A gate whose clock is off decides nothing: an id would be kept where it is not looked for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction

from accounts.models import GatewayKey
from accounts.operations.versions import bump_catalogue
from config import environment as env
from metering.models import Denial, Hold, UsageEvent
from metering.operations.rolling_up import roll_up
from tests.metering.gate.books import broken
from tests.metering.gate.client import Got
from tests.metering.gate.conftest import World

MONTHS = timedelta(days=70)
APART = timedelta(minutes=5)
pytestmark = pytest.mark.django_db(transaction=True)


class Clock(datetime):
    """The clock of the gate's process, as far off as it is set."""

    off = timedelta(0)

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.now(tz) + cls.off


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Clock]]:
    for module in ("engine", "app", "catalogue"):
        monkeypatch.setattr(f"metering.gate.{module}.datetime", Clock)
    yield Clock
    Clock.off = timedelta(0)


def report(world: World, *ids: str) -> Got:
    events = [
        {"specversion": "1.0", "id": id_, "source": "s", "type": "api.call", "subject": world.key}
        for id_ in ids
    ]
    return world.gate.send("POST", "/api/v1/events", events)


@pytest.mark.parametrize("off", [MONTHS, -MONTHS, 2 * APART, -2 * APART])
def test_nothing_is_decided_by_a_clock_that_is_off_and_all_of_it_when_it_is_mended(
    world: World, clock: type[Clock], off: timedelta
) -> None:
    assert world.check(mode="consume", id="c1").status == 200
    before = world.state()
    clock.off = off
    for got in (
        world.check(mode="consume", id="c2"),
        world.check(mode="hold", id="h1"),
        world.check(),
        world.check(quantity=5_000),  # would be denied
        report(world, "e1", "e2"),
        world.check(mode="consume", id="c1"),  # a repeat
    ):
        assert (got.status, got.body["code"]) == (503, "unavailable"), got
        assert "clock" in got.body["detail"]
        assert "retry-after" in {name.lower() for name in got.headers}
    assert world.state() == before
    assert not Denial.objects.exists()
    clock.off = timedelta(0)
    assert world.check(mode="consume", id="c2").status == 200
    assert world.check(mode="consume", id="c1").headers["farebox-replayed"] == "true"
    assert world.check(mode="hold", id="h1").status == 200
    assert report(world, "e1", "e2").body["accepted"] == 2
    assert (UsageEvent.objects.count(), Hold.objects.count()) == (4, 1)
    roll_up(limit=10)
    assert broken(world.customer.id) == []


@pytest.mark.parametrize("off", [APART - timedelta(seconds=30), timedelta(seconds=30) - APART])
def test_a_clock_that_is_a_little_off_decides(
    world: World, clock: type[Clock], off: timedelta
) -> None:
    clock.off = off
    assert world.check(mode="consume", id="c1").status == 200
    clock.off = timedelta(0)
    assert world.check(mode="consume", id="c1").headers["farebox-replayed"] == "true"
    assert UsageEvent.objects.count() == 1


def gateway_key(**fields: datetime) -> None:
    with transaction.atomic():
        bump_catalogue()
        GatewayKey.objects.update(**fields)


@pytest.mark.parametrize("short", [True, False])
def test_a_good_key_is_not_told_that_it_expired(
    world: World, clock: type[Clock], short: bool
) -> None:
    world.gate.short = short
    gateway_key(expires_at=datetime.now(UTC) + timedelta(days=7))
    assert world.check(mode="consume", id="c1").status == 200
    clock.off = MONTHS
    got = world.check(mode="consume", id="c2")
    assert (got.status, got.body["code"]) == (503, "unavailable")
    assert "clock" in got.body["detail"]


def test_an_expired_key_is_not_let_in(world: World, clock: type[Clock]) -> None:
    now = datetime.now(UTC)
    gateway_key(created_at=now - MONTHS, expires_at=now - timedelta(seconds=60))
    got = world.check(mode="consume", id="c1")
    assert (got.status, got.body["code"]) == (401, "key_expired")
    for off in (MONTHS, -MONTHS):
        clock.off = off
        for _ in range(2):  # the short way, and the other one
            assert world.check(mode="consume", id="c1").status in {401, 503}
    assert not UsageEvent.objects.exists()


@pytest.mark.parametrize("off", [timedelta(0), -APART / 2])
def test_a_revoked_key_of_a_gateway_is_refused_at_once_whatever_the_clock_says(
    world: World, clock: type[Clock], off: timedelta
) -> None:
    clock.off = off
    assert world.check(mode="consume", id="c1").status == 200
    gateway_key(revoked_at=datetime.now(UTC))
    while world.check().status != 401:  # a batch reads the catalogue anew
        pass
    assert world.check().body["code"] == "key_revoked"


def test_the_log_says_it_once_and_again_when_it_is_mended(
    world: World, clock: type[Clock], caplog: pytest.LogCaptureFixture
) -> None:
    clock.off = MONTHS
    for number in range(3):
        assert world.check(mode="consume", id=f"c{number}").status == 503
    (said,) = [each.getMessage() for each in caplog.records if "clock" in each.getMessage()]
    assert "6,048,000 s ahead of the database's" in said
    clock.off = timedelta(0)
    assert world.check(mode="consume", id="c1").status == 200
    said = [each.getMessage() for each in caplog.records if "clock" in each.getMessage()][-1]
    assert "agrees with the database's again" in said


def test_what_a_call_takes_is_no_difference_of_clocks() -> None:
    """The process's time is taken before it reads, the database's when it writes."""
    name = env.CLOCKS_APART_S.name
    assert env.CLOCKS_APART_S.read({name: "10"}) == 10
    with pytest.raises(env.SettingInvalid):
        env.CLOCKS_APART_S.read({name: "9"})
