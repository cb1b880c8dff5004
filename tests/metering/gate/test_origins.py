"""What a connection remembers of origins that are written: exactly, and not without bound."""

from __future__ import annotations

import pytest

from metering.gate import store
from metering.gate.rows import Origin
from metering.models import EventOrigin, Meter
from tests.metering.gate.conftest import World
from tests.metering.gate.test_repeats import event, post

ENDS = (-(2**63), -1, 0, 1, 2**63 - 1)


def test_two_origins_are_never_taken_for_one() -> None:
    origins = [Origin(c, i, "", None, None) for c in (1, 2, 3, 2**40) for i in ENDS]
    assert len({each.known_as for each in origins}) == len(origins)


@pytest.mark.django_db(transaction=True)
def test_where_too_many_are_remembered_they_are_written_again_and_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_ORIGINS_MAX", 2)
    types = [f"type.{n}" for n in range(5)]
    for type_ in types:
        Meter.objects.create(
            key=type_, event_type=type_, aggregation="count", created_at=world.calls.created_at
        )
    for round_ in range(2):
        for type_ in types:
            told = post(world.gate, event(world, f"{round_} {type_}", type=type_))
            assert told.body["accepted"] == 1
            for each in world.gate.gate._engine._stores:  # type: ignore[union-attr]
                assert len(each._origins) <= 3
    found = EventOrigin.objects.filter(customer_id=world.customer.id)
    assert sorted(found.values_list("type", flat=True)) == types
