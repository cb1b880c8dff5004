"""A customer that is never quiet: windows that are over do not stay in a process's memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from metering.domain.account import OPENED_KNOWN
from metering.models import Balance
from tests.metering.gate.conftest import World, entitle

MINUTES = 3 * OPENED_KNOWN


@pytest.mark.traced
def test_a_copy_does_not_grow_with_each_window_that_begins(world: World) -> None:
    entitle(world.customer, world.calls, included=10, window="minute")
    begun = datetime.now(UTC) - timedelta(minutes=MINUTES)
    known = []
    for minute in range(MINUTES):  # in their order, as a process meets them that runs for hours
        event = {
            "specversion": "1.0",
            "id": str(minute),
            "source": "app",
            "type": "api.call",
            "subject": world.key,
            "time": (begun + timedelta(minutes=minute)).isoformat(),
        }
        got = world.gate.send("POST", "/api/v1/events", event)
        assert got.body["accepted"] == 1
        known.append(_windows_known(world))

    assert max(known) >= OPENED_KNOWN // 2  # it was looked at where they are
    assert max(known) <= OPENED_KNOWN + 2  # the month, and the minute that was there when read
    minutes = Balance.objects.filter(customer_id=world.customer.id, window="minute")
    assert [each.used for each in minutes] == [1] * MINUTES
    months = Balance.objects.filter(customer_id=world.customer.id, window="month")
    assert sum(each.used for each in months) == MINUTES


def _windows_known(world: World) -> int:
    engine = world.gate.gate._engine
    assert engine is not None
    account = engine._copies._accounts.get(world.customer.id)
    return 0 if account is None else len(account.balances)
