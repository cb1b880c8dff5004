"""metering.domain.counting: the same event has the same key and print at every door."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.counting import (
    TimeBounds,
    TimeOutOfRange,
    event_key,
    fingerprint,
    usage_of,
)
from metering.domain.meters import Aggregation, MeterTerms, QuantityInvalid, filters_from
from metering.domain.prices import PriceBook, PriceSchedule
from metering.gate import answers
from metering.gate.events import fingerprint as print_of_the_gate
from tests.factories.metering import NOW

BOUNDS = TimeBounds(max_age=timedelta(days=90), max_ahead=timedelta(minutes=5))
values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=6)
data = st.dictionaries(st.text(max_size=6), values | st.lists(values, max_size=3), max_size=4)


def terms(number: int = 1, **fields: Any) -> MeterTerms:
    given: dict[str, Any] = {
        "id": number,
        "key": f"meter-{number}",
        "event_type": "call",
        "aggregation": Aggregation.SUM,
        "value_property": "tokens",
        "dimensions": (),
        "filters": (),
        "unit": "",
        **fields,
    }
    return MeterTerms(**given)


@given(st.text(max_size=20), st.text(max_size=20))
def test_an_event_has_the_key_that_the_gate_keeps_it_under(source: str, id_: str) -> None:
    assert event_key(source, id_).hex == answers.digest_id(source, id_)


@given(st.text(max_size=20), st.none() | data)
def test_a_repeat_equals_what_the_gate_kept(type_: str, properties: dict[str, Any] | None) -> None:
    assert fingerprint(type_, properties) == print_of_the_gate(type_, properties)
    assert fingerprint(type_, properties) == fingerprint(type_, dict(properties or {}))


def test_members_in_another_order_are_the_same_event() -> None:
    assert fingerprint("a", {"x": 1, "y": {"p": 1, "q": 2}}) == fingerprint(
        "a", {"y": {"q": 2, "p": 1}, "x": 1}
    )
    assert fingerprint("a", {"x": 1}) != fingerprint("b", {"x": 1})


def test_an_event_counts_on_every_meter_of_its_type() -> None:
    meters = [
        terms(1),
        terms(2, aggregation=Aggregation.COUNT, value_property=""),
        terms(3, event_type="other"),
        terms(4, aggregation=Aggregation.UNIQUE, value_property="user"),
    ]
    properties = {"tokens": 5, "user": "eve"}
    assert usage_of(meters, type="call", properties=properties, at=NOW) == {1: 5, 2: 1, 4: "eve"}
    assert usage_of([], type="call", properties=properties, at=NOW) == {}


def test_a_quantity_in_the_data_counts_on_meters_that_take_one() -> None:
    count = terms(2, aggregation=Aggregation.COUNT, value_property="")
    assert usage_of([count], type="call", properties={"quantity": 7}, at=NOW) == {2: 7}
    own = terms(1, value_property="quantity")
    assert usage_of([own, count], type="call", properties={"quantity": 7}, at=NOW) == {1: 7, 2: 1}
    with pytest.raises(QuantityInvalid):
        usage_of([count], type="call", properties={"quantity": "x"}, at=NOW)


def test_a_quantity_goes_to_what_adds_up_and_has_no_price() -> None:
    costs = PriceSchedule("llm", (NOW,), (PriceBook({"*": {"input": 2_000_000_000}}),))
    meters = [
        terms(1),
        terms(2, aggregation=Aggregation.MAX),
        terms(3, value_property="model", prices=costs),
    ]
    properties = {"quantity": 9, "tokens": 7, "model": "m", "input_tokens": 3}
    found = usage_of(meters, type="call", properties=properties, at=NOW)
    assert found == {1: 9, 2: 7, 3: 6}


def test_only_meters_that_match_at_that_moment_count() -> None:
    eu = terms(1, filters=filters_from([{"property": "region", "in": ["eu"]}]))
    before = terms(2, aggregation=Aggregation.COUNT, value_property="", until_at=NOW)
    meters = [eu, before, terms(2, from_at=NOW)]
    properties = {"region": "us", "tokens": 5}
    assert usage_of(meters, type="call", properties=properties, at=NOW) == {2: 5}
    earlier = NOW - timedelta(seconds=1)
    assert usage_of(meters, type="call", properties=properties, at=earlier) == {2: 1}


def test_the_time_of_an_event_lies_within_bounds() -> None:
    for at in (NOW, NOW + timedelta(minutes=5), NOW - timedelta(days=90)):
        BOUNDS.check(at, reported_at=NOW, now=NOW)
    BOUNDS.check(NOW - timedelta(days=90), reported_at=NOW, now=NOW + timedelta(days=30))
    with pytest.raises(TimeOutOfRange, match="more than 300 s ahead"):
        BOUNDS.check(NOW + timedelta(minutes=5, seconds=1), reported_at=NOW, now=NOW)
    with pytest.raises(TimeOutOfRange, match="more than 90 days before"):
        BOUNDS.check(NOW - timedelta(days=91), reported_at=NOW, now=NOW)
