"""Rounds that come to nothing: calls wait again, each of them once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import ClassVar

import pytest
from django.db import transaction

from accounts.operations.versions import bump, bump_catalogue
from metering.gate.catalogue import Catalogue
from metering.gate.store import BatchRefused, Store, Unavailable
from metering.models import Denial, UsageBatch, UsageEvent
from tests.metering.gate.client import GateProcess, dsn
from tests.metering.gate.conftest import World, entitle, make_customer
from tests.metering.gate.test_repeats import event, post

pytestmark = pytest.mark.django_db(transaction=True)


class CutOff(Store):
    """Loses its connection as it reads the catalogue, as often as it is told to."""

    times: ClassVar[list[int]] = []

    def twin(self) -> Store:
        """Another one that does."""
        return CutOff(self._dsn, statement_timeout_ms=self._timeout_ms)

    async def read_catalogue(self) -> Catalogue:
        """Read it, or lose the connection."""
        if self.times:
            self.times.pop()
            await self.close()
            raise Unavailable("cut off")
        return await super().read_catalogue()


@pytest.fixture
def cut_off(world: World) -> Iterator[GateProcess]:
    """A gate at work that loses its connection twice when the catalogue changes next."""
    gate = GateProcess(store=CutOff)
    gate.key = world.gate.key
    assert gate.check({"key": world.key, "meter": "api.calls"}).status == 200
    with transaction.atomic():
        bump_catalogue()
    CutOff.times[:] = [1, 2]
    yield gate
    CutOff.times.clear()
    gate.stop()


def test_events_whose_round_was_lost_and_cut_off_are_no_repeats(
    world: World, cut_off: GateProcess
) -> None:
    told = post(cut_off, event(world, "1"), event(world, "2"))

    assert (told.body["accepted"], told.body["duplicates"]) == (2, 0)
    assert UsageEvent.objects.count() == 2
    assert CutOff.times == []


def test_of_a_flight_where_some_customers_had_changed_each_is_rolled_up_once(world: World) -> None:
    """What the others count is in the first batch, and what had to be decided again in a later."""
    other = make_customer()
    entitle(other, world.calls, included=1_000)
    members = [("a", world.customer), ("b", other)]
    for round_, changed in enumerate(((), (other,), (world.customer, other))):
        for customer in changed:
            with transaction.atomic():
                bump(customer.id)
        told = post(
            world.gate,
            *(event(world, f"{round_}{name}", subject=who.public_id) for name, who in members),
        )
        assert told.body["accepted"] == 2

    batches = UsageBatch.objects.all()
    counted = [(delta[0], delta[4]) for batch in batches for delta in batch.deltas]
    assert sorted(counted) == sorted([(who.id, 1) for _, who in members] * 3)
    for batch in batches:
        assert sorted(batch.customers or ()) == sorted(delta[0] for delta in batch.deltas)
    assert any(len(batch.deltas) == 1 for batch in batches)


def test_a_denial_whose_round_was_lost_and_cut_off_counts_once(
    world: World, cut_off: GateProcess
) -> None:
    check = {"key": world.key, "meter": "api.calls", "mode": "consume", "id": "1"}

    assert cut_off.check(check | {"quantity": 10_000}).status == 402
    assert Denial.objects.get().count == 1


def test_a_catalogue_read_in_a_transaction_that_has_failed_is_unavailable(world: World) -> None:
    """A stranger's key has it read over the connection of a flight, whatever that is doing."""

    wrong, today = [(world.customer.id, "no id")], datetime.now(UTC).date()

    async def failed(store: Store) -> None:
        async with store.locked(world.customer.id):
            try:
                await store.read_ids(wrong, today=today)
            finally:
                with pytest.raises(Unavailable, match="aborted"):
                    await store.read_catalogue()

    async def story() -> None:
        store = Store(dsn(), statement_timeout_ms=5_000)
        try:
            with pytest.raises(BatchRefused, match="uuid"):
                await failed(store)
            assert (await store.read_catalogue()).version >= 0
        finally:
            await store.close()

    asyncio.run(story())


def test_while_nothing_may_be_written_a_call_is_refused_and_may_be_repeated(world: World) -> None:
    """As on a standby, or on a server that is set to read only."""
    gate = GateProcess(
        address=f"{dsn()} options='-c default_transaction_read_only=on'", deadline_s=1.0
    )
    gate.key = world.gate.key
    check = {"key": world.key, "meter": "api.calls", "mode": "consume", "id": "1"}
    try:
        assert gate.send("GET", "/api/v1/holds/hold_none").status == 404
        refused = gate.check(check)
        assert (refused.status, refused.body["code"]) == (503, "unavailable")
    finally:
        gate.stop()
    assert not UsageEvent.objects.exists()
    assert world.gate.check(check).status == 200
