"""metering.domain.meters: matching, quantities, dimensions."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.meters import (
    DIMENSION_BYTES,
    MEMBER_BYTES,
    QUANTITY_MAX,
    Aggregation,
    MeterFilter,
    MeterTerms,
    QuantityInvalid,
    counted_of,
    dimension_value,
    dimensions_of,
    filters_from,
    matches,
    number_of,
    text_of,
)
from metering.domain.prices import PriceBook, PriceSchedule, PriceUnknown

NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
scalars = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
properties = st.dictionaries(st.sampled_from(["region", "model", "tokens", "other"]), scalars)


def meter(
    aggregation: Aggregation = Aggregation.SUM,
    *,
    filters: tuple[MeterFilter, ...] = (),
    dimensions: tuple[str, ...] = (),
    **terms: Any,
) -> MeterTerms:
    return MeterTerms(
        id=7,
        key="chat.tokens",
        event_type="llm.completion",
        aggregation=aggregation,
        value_property=terms.pop(
            "value_property", "" if aggregation is Aggregation.COUNT else "tokens"
        ),
        dimensions=dimensions,
        filters=filters,
        unit="token",
        **terms,
    )


def quantity_of(terms: MeterTerms, properties: dict[str, object]) -> int | str:
    return counted_of(terms, properties, at=NOW)


@given(kind=st.text(), properties=properties)
def test_another_type_never_matches(kind: str, properties: dict[str, object]) -> None:
    assert matches(meter(), type=kind, properties=properties) == (kind == "llm.completion")


@given(properties=properties, wanted=st.lists(scalars, max_size=4))
def test_a_filter_admits_exactly_its_values(
    properties: dict[str, object], wanted: list[object]
) -> None:
    filters = filters_from([{"property": "region", "in": wanted}])
    expected = text_of(properties.get("region"))
    texts = [text_of(each) for each in wanted]
    assert matches(meter(filters=filters), type="llm.completion", properties=properties) == (
        expected is not None and expected in texts
    )


def test_every_filter_must_admit() -> None:
    filters = filters_from(
        [{"property": "region", "in": ["eu", "us"]}, {"property": "streamed", "in": [True]}]
    )
    counted = meter(filters=filters)
    assert matches(
        counted, type="llm.completion", properties={"region": "us", "streamed": True, "x": 1}
    )
    assert not matches(
        counted, type="llm.completion", properties={"region": "us", "streamed": False}
    )
    assert not matches(counted, type="llm.completion", properties={"streamed": True})


@given(properties=properties)
def test_a_count_is_one_whatever_the_properties(properties: dict[str, object]) -> None:
    assert quantity_of(meter(Aggregation.COUNT), properties) == 1


@given(quantity=st.integers(min_value=0, max_value=QUANTITY_MAX))
def test_a_sum_is_the_property(quantity: int) -> None:
    assert quantity_of(meter(), {"tokens": quantity, "other": -1}) == quantity


@given(
    value=st.integers(max_value=-1)
    | st.integers(min_value=QUANTITY_MAX + 1)
    | st.floats()
    | st.text()
    | st.booleans()
    | st.none()
    | st.lists(st.integers())
)
def test_anything_but_a_whole_number_in_range_is_refused_with_its_name(value: object) -> None:
    with pytest.raises(QuantityInvalid) as refused:
        quantity_of(meter(), {"tokens": value})
    assert refused.value.param == "tokens"
    assert "tokens" in refused.value.detail


@pytest.mark.parametrize(
    ("given_properties", "reason"),
    [
        ({}, "missing"),
        ({"tokens": 1.5}, "a fraction"),
        ({"tokens": 2.0}, "a fraction"),
        ({"tokens": "12"}, "not str"),
        ({"tokens": -1}, "negative"),
        ({"tokens": QUANTITY_MAX + 1}, "1,000,000,000,000,000"),
    ],
)
def test_the_refusal_says_why(given_properties: dict[str, object], reason: str) -> None:
    with pytest.raises(QuantityInvalid, match=reason):
        quantity_of(meter(), given_properties)


@given(properties=properties)
def test_dimensions_are_texts_of_the_named_properties_only(properties: dict[str, object]) -> None:
    found = dimensions_of(meter(dimensions=("model", "region")), properties)
    assert set(found) == {
        name for name in ("model", "region") if text_of(properties.get(name)) is not None
    }
    for name, text in found.items():
        whole = text_of(properties[name])
        assert whole is not None
        assert text == dimension_value(whole)


@given(text=st.text(st.characters(), max_size=400))
def test_a_dimension_fits_a_key_and_postgresql(text: str) -> None:
    cut = dimension_value(text)
    assert len(cut.encode()) <= DIMENSION_BYTES
    assert "\x00" not in cut
    assert dimension_value(cut) == cut


def test_a_short_dimension_is_kept_whole() -> None:
    assert dimension_value("gpt-4o · Zürich") == "gpt-4o · Zürich"
    assert dimension_value("ü" * 200) == "ü" * 60


def test_texts_are_as_json_writes_them() -> None:
    assert [text_of(each) for each in (True, False, 12, 1.5, "eu", None, [1], {"a": 1})] == [
        "true",
        "false",
        "12",
        "1.5",
        "eu",
        None,
        None,
        None,
    ]


def test_one_number_has_one_text_however_it_is_written() -> None:
    for written in ("100", "100.0", "1e2", "1.00E+2", "1000e-1"):
        assert text_of(json.loads(written)) == "100"
    assert text_of(json.loads("-0.0")) == "0"
    assert text_of(json.loads("1e-7")) == "0.0000001"
    assert text_of(1e22) == "1" + "0" * 22
    assert text_of(Decimal("0.50")) == "0.5"
    assert text_of(float("inf")) is None


@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_a_numbers_text_outlives_a_database_that_writes_it_in_digits(number: float) -> None:
    text = text_of(number)
    assert text is not None
    assert text_of(json.loads(text)) == text
    assert Decimal(text) == Decimal(repr(number))


def test_what_is_no_number_has_none() -> None:
    assert [number_of(each) for each in (True, "1", None, [1], float("nan"))] == [None] * 5
    assert number_of(3) == 3
    assert number_of(0.3) == Decimal("0.3")


def admits(condition: dict[str, object], value: object) -> bool:
    (one,) = filters_from([{"property": "x", **condition}])
    return one.admits({} if value is None else {"x": value})


def test_excluded_values_and_presence() -> None:
    assert not admits({"not_in": ["eu"]}, "eu")
    assert admits({"not_in": ["eu"]}, "us")
    assert admits({"not_in": ["eu"]}, None)
    assert admits({"exists": True}, "eu")
    assert not admits({"exists": True}, None)
    assert not admits({"exists": True}, ["a list has no text"])
    assert admits({"exists": False}, None)
    assert not admits({"exists": False}, 0)
    assert not admits({"in": ["eu", "us"], "not_in": ["us"]}, "us")


LIMITS = ("gte", "gt", "lte", "lt")


@given(
    value=st.integers(-5, 5) | st.decimals(-5, 5, places=1).map(float),
    limits=st.dictionaries(
        st.sampled_from(LIMITS), st.integers(-5, 5) | st.decimals(-5, 5, places=1).map(float)
    ),
)
def test_a_range_is_exact_at_its_ends(value: float, limits: dict[str, float]) -> None:
    number = Decimal(str(value))
    low = limits.get("gte", -10)
    assert admits(dict(limits), value) == (
        number >= Decimal(str(low))
        and number > Decimal(str(limits.get("gt", -10)))
        and number <= Decimal(str(limits.get("lte", 10)))
        and number < Decimal(str(limits.get("lt", 10)))
    )


def test_a_range_admits_numbers_only_and_compares_them_as_they_are_written() -> None:
    for value in (None, "5", True, [5]):
        assert not admits({"gte": 0}, value)
    assert admits({"gte": 0.3, "lte": 0.3}, 0.3)
    assert admits({"lt": 0.30000000000000004}, 0.3)
    assert not admits({"gt": 0.3}, 0.3)


def test_terms_stand_from_their_beginning_until_the_next_begin() -> None:
    later = NOW + timedelta(days=1)
    first, second = meter(until_at=NOW), meter(from_at=NOW, until_at=later)
    for moment, standing in ((NOW - timedelta.resolution, first), (NOW, second)):
        assert [each for each in (first, second) if each.stands_at(moment)] == [standing]
    assert not second.stands_at(later)
    assert matches(first, type="llm.completion", properties={})
    assert not matches(first, type="llm.completion", properties={}, at=NOW)
    assert matches(second, type="llm.completion", properties={}, at=NOW)


@given(value=st.integers(0, QUANTITY_MAX))
@pytest.mark.parametrize("aggregation", [Aggregation.MAX, Aggregation.LATEST])
def test_a_reading_is_the_property(aggregation: Aggregation, value: int) -> None:
    assert quantity_of(meter(aggregation), {"tokens": value}) == value
    with pytest.raises(QuantityInvalid, match="reads 'tokens', which is missing"):
        quantity_of(meter(aggregation), {})


@given(member=st.text(min_size=1, max_size=60).filter(lambda text: "\x00" not in text))
def test_a_member_is_its_text_whole(member: str) -> None:
    assert quantity_of(meter(Aggregation.UNIQUE), {"tokens": member}) == member


def test_a_member_may_be_a_whole_number() -> None:
    assert quantity_of(meter(Aggregation.UNIQUE), {"tokens": 42}) == "42"


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1.5,
        [],
        "",
        "a\x00b",
        "\ud800",
        chr(0xDFFF),
        "x" * (MEMBER_BYTES + 1),
        "ü" * (MEMBER_BYTES // 2 + 1),
    ],
)
def test_what_cannot_be_a_member_is_refused_never_cut(value: object) -> None:
    with pytest.raises(QuantityInvalid) as refused:
        quantity_of(meter(Aggregation.UNIQUE), {"tokens": value})
    assert refused.value.param == "tokens"


def test_only_plain_sums_and_counts_take_a_quantity() -> None:
    taking = {each for each in Aggregation if meter(each).takes_quantity}
    assert taking == {Aggregation.COUNT, Aggregation.SUM}
    assert {each for each in Aggregation if each.adds_up} == taking
    assert not meter(prices=SCHEDULE).takes_quantity


# Per token: input 0.000 002 5, output 0.000 01, cached 0.000 001 25 of a dollar.
SCHEDULE = PriceSchedule(
    "llm",
    (NOW,),
    (
        PriceBook(
            {
                "m-1": {
                    "input": 2_500_000_000_000,
                    "output": 10_000_000_000_000,
                    "cached_input": 1_250_000_000_000,
                }
            }
        ),
    ),
)


def test_a_cost_is_tokens_of_each_class_times_their_price() -> None:
    costs = meter(prices=SCHEDULE, value_property="model")
    # 1,000 x 2,500 nano + 200 x 10,000 nano + 400 x 1,250 nano = 5,000,000 nano = 0.005 USD
    used = {"input_tokens": 1_000, "output_tokens": 200, "cached_input_tokens": 400}
    assert quantity_of(costs, {"model": "m-1", **used}) == 5_000_000
    assert quantity_of(costs, {"model": "m-1", "output_tokens": 0}) == 0
    assert quantity_of(costs, {"model": "m-1", "input_tokens": 1, "output_tokens": None}) == 2_500


def test_what_has_no_cost_is_refused_and_says_why() -> None:
    costs = meter(prices=SCHEDULE, value_property="model")
    refusals: tuple[tuple[dict[str, object], str, str], ...] = (
        ({"input_tokens": 1}, "model", "prices 'model', which is missing"),
        ({"model": 7, "input_tokens": 1}, "model", "missing"),
        ({"model": "m-1"}, "input_tokens", "name any of input_tokens"),
        ({"model": "m-1", "input_tokens": -1}, "input_tokens", "negative"),
        ({"model": "m-1", "output_tokens": QUANTITY_MAX}, "the cost on chat.tokens", "at most"),
    )
    for properties, param, reason in refusals:
        with pytest.raises(QuantityInvalid, match=reason) as refused:
            quantity_of(costs, properties)
        assert refused.value.param == param
    with pytest.raises(PriceUnknown, match="no model 'm-2'"):
        quantity_of(costs, {"model": "m-2", "input_tokens": 1})
    with pytest.raises(PriceUnknown, match="no version that early"):
        counted_of(costs, {"model": "m-1", "input_tokens": 1}, at=NOW - timedelta(seconds=1))
