"""metering.domain.meters: matching, quantities, dimensions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.meters import (
    DIMENSION_BYTES,
    QUANTITY_MAX,
    Aggregation,
    MeterFilter,
    MeterTerms,
    QuantityInvalid,
    dimension_value,
    dimensions_of,
    filters_from,
    matches,
    quantity_of,
    text_of,
)

scalars = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
properties = st.dictionaries(st.sampled_from(["region", "model", "tokens", "other"]), scalars)


def meter(
    aggregation: Aggregation = Aggregation.SUM,
    *,
    filters: tuple[MeterFilter, ...] = (),
    dimensions: tuple[str, ...] = (),
) -> MeterTerms:
    return MeterTerms(
        id=7,
        key="chat.tokens",
        event_type="llm.completion",
        aggregation=aggregation,
        value_property="tokens" if aggregation is Aggregation.SUM else "",
        dimensions=dimensions,
        filters=filters,
        unit="token",
    )


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
    assert set(found) == {name for name in ("model", "region") if properties.get(name) is not None}
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
