"""64 callers of four gates do what they like while billing changes everything: the books hold."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.utils import timezone

from accounts.domain import ids
from metering.models import Balance, Denial, Hold, UsageEvent
from metering.operations.entitling import Right, StandingTerms, entitle
from metering.operations.expiring import expire_holds
from metering.operations.granting import grant, void_grant
from metering.operations.rolling_up import roll_up
from tests.metering.gate.books import broken
from tests.metering.gate.client import dsn, make_api_key
from tests.metering.gate.conftest import World, make_customer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.proof]
ROOT = Path(__file__).resolve().parents[2]
SECONDS = 20 if hypothesis.settings().max_examples >= 1_000 else 3
GATES, CALLERS, CUSTOMERS = 4, 16, 5
SEED = 20261126


class Biller:
    """What happens to customers beside their calls: grants, plans, sweeps and rollups."""

    def __init__(self, world: World, customer_ids: list[int]) -> None:
        self._chance = random.Random(SEED)
        self._meters = [world.calls.id, world.tokens.id]
        self._customers = customer_ids
        self._since = timezone.now().replace(microsecond=0) - timedelta(hours=1)
        self._given: list[tuple[int, int]] = []
        for customer_id in customer_ids:
            self._sell(customer_id, now=timezone.now())

    def act(self) -> None:
        """Do one of them."""
        now, customer_id = timezone.now(), self._chance.choice(self._customers)
        match self._chance.randrange(6):
            case 0 | 1:
                made = grant(
                    customer_id,
                    meter_id=self._chance.choice(self._meters),
                    quantity=self._chance.randrange(1, 400),
                    priority=self._chance.choice([1, 10, 10, 20]),
                    expires_at=self._chance.choice([None, now + timedelta(seconds=2)]),
                    actor="test",
                    now=now,
                )
                self._given.append((customer_id, made.id))
            case 2 if self._given:
                given = self._chance.choice(self._given)
                void_grant(given[0], grant_id=given[1], actor="test", now=now)
                self._given.remove(given)
            case 3:
                self._sell(customer_id, now=now)
            case 4:
                expire_holds(now=now, limit=1_000)
            case _:
                roll_up(limit=100)

    def _sell(self, customer_id: int, *, now: datetime) -> None:
        chance = self._chance
        billed = chance.random() < 0.4
        rights = [
            Right(
                kind="metered",
                meter_id=meter_id,
                anchor_at=self._since,
                starts_at=self._since,
                included=chance.choice([0, 300, 5_000]),
                over="bill" if billed else "deny",
                overage_limit=chance.choice([None, 0, 200]) if billed else None,
            )
            for meter_id in self._meters
        ]
        if chance.random() < 0.5:
            rights.append(
                Right(
                    kind="metered",
                    meter_id=self._meters[0],
                    anchor_at=self._since,
                    starts_at=self._since,
                    window="minute",
                    included=chance.choice([100, 2_000]),
                )
            )
        unpaid = chance.random() < 0.15
        standing = StandingTerms(
            plan_key=chance.choice(["free", "pro"]),
            deny_code="payment_failed" if unpaid else "",
            deny_at=now if unpaid else None,
        )
        entitle(customer_id, rights=rights, standing=standing, source="sub_1", now=now)


def test_the_books_hold_whatever_64_callers_do(world: World, tmp_path: Path) -> None:
    customers = [world.customer, *(make_customer() for _ in range(CUSTOMERS - 1))]
    keys = [make_api_key(each) for each in customers]
    biller = Biller(world, [each.id for each in customers])
    gates = [_start(world, keys, says=tmp_path / f"gate{n}") for n in range(GATES)]
    while any(each.poll() is None for each in gates):
        biller.act()

    assert [each.returncode for each in gates] == [0] * GATES
    told = [json.loads((tmp_path / f"gate{n}").read_text()) for n in range(GATES)]
    assert [wrong for each in told for wrong in each["wrong"]] == []
    statuses = sum((Counter(each["statuses"]) for each in told), Counter[str]())
    assert statuses.keys() >= {"200", "402"}, statuses
    _is_in_the_books(world, told)
    assert broken() == []
    assert Denial.objects.exists()

    while roll_up(limit=1_000):
        pass
    assert broken() == []
    expire_holds(now=timezone.now() + timedelta(days=1), limit=100_000)
    assert broken() == []
    assert not Balance.objects.exclude(held=0).exists()


def _is_in_the_books(world: World, told: list[dict[str, Any]]) -> None:
    """All that was admitted is there once, as it was asked; what was given back is not."""
    meters = {str(world.calls.id): "api.calls", str(world.tokens.id): "chat.tokens"}
    kept = {id_: usage for each in told for id_, usage in each["kept"].items()}
    rows = UsageEvent.objects.values_list("id", "source", "external_id", "usage")
    found = {name: {meters[m]: n for m, n in usage.items()} for _, _, name, usage in rows}
    closings = Hold.objects.filter(state="settled").values_list("closing", flat=True)
    by = [json.loads(closing or "{}")["event"] for closing in closings]
    assert len(found) == len(rows), "an id counts once"
    assert found == kept
    assert len(set(by)) == len(by), "an event settles one hold"
    events = UsageEvent.objects.values_list("customer_id", "id")
    assert set(by) <= {ids.encode_owned("evt", customer_id=c, key=key) for c, key in events}
    stand_open = set(Hold.objects.filter(state="open").values_list("external_id", flat=True))
    assert {id_ for each in told for id_ in each["open"]} <= stand_open


def _start(world: World, keys: list[str], *, says: Path) -> subprocess.Popen[str]:
    with says.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.concurrency.mixing_worker"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=out,
            text=True,
        )
    job: dict[str, object] = {
        "dsn": dsn(),
        "gateway_key": world.gate.key,
        "keys": keys,
        "name": says.name,
    }
    job |= {"seed": SEED, "seconds": SECONDS, "callers": CALLERS}
    assert process.stdin is not None
    process.stdin.write(json.dumps(job) + "\n")
    process.stdin.close()
    return process
