"""Calls of a trace: exact, or a sentence that says what is wrong with the row."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.shapes.reading import ShapeInvalid
from metering.domain.traces import PRESETS, PROPERTIES_MAX, Columns, RecordedCall, call_of

LLM = PRESETS["llm-trace"]
AT = datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)


def row(at: object = "2023-11-16 18:17:03", before: object = 4808, after: object = 10) -> Any:
    return {"TIMESTAMP": at, "ContextTokens": before, "GeneratedTokens": after}


def test_a_call_of_a_language_model() -> None:
    call = call_of(3, row("2023-11-16 18:17:03.9799600", "4808", " 10 "), LLM)
    assert call == RecordedCall(3, AT, 4808, 10, {})
    assert call.actual == 4818


@pytest.mark.parametrize(
    "at",
    [
        AT,
        AT.replace(tzinfo=None),
        "2023-11-16T19:17:03.97996+01:00",
        1_700_158_623.97996,
        "1700158623.97996",
    ],
    ids=["aware", "local", "offset", "number", "text of a number"],
)
def test_times_as_files_have_them(at: object) -> None:
    assert call_of(0, row(at), LLM).at == AT


def test_quantities_as_files_have_them() -> None:
    call = call_of(0, row(before=Decimal("7.0"), after=5.0), LLM)
    assert (call.input, call.output) == (7, 5)
    assert call_of(0, row(before="007", after=10**12), LLM).actual == 10**12 + 7


def test_columns_may_have_other_names_and_become_properties() -> None:
    names = {"model": "Model", "region": "Where", "day": "Day", "deep": "deep", "none": "none"}
    columns = Columns(output="out", properties=names)
    said = {" Where ": " eu, west", "Model": "3", "out": "5", "none": None}
    call = call_of(0, {**said, "Day": date(2023, 11, 16), "deep": {"a": [1]}}, columns)
    assert (call.at, call.input, call.output) == (None, 0, 5)
    assert call.properties == {
        "model": "3",  # a text stays one
        "region": "eu, west",
        "day": "2023-11-16",
        "deep": {"a": [1]},
    }


def test_without_quantities_every_call_counts_as_one() -> None:
    assert [call_of(0, {"a": each}, Columns()).actual for each in "xy"] == [1, 1]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"TIMESTAMP": AT, "x": 1}, r"^there is no 'ContextTokens'; there are TIMESTAMP, x$"),
        (row(before="1.5"), r"^ContextTokens: '1\.5' is not a whole number of 0 to 1,000,000,0"),
        (row(after="-1"), "^GeneratedTokens: '-1' is not a whole number"),
        (row(after=-1), "^GeneratedTokens: -1 is not a whole number"),
        (row(after=""), "^GeneratedTokens: '' is not a whole number"),
        (row(after=None), "^GeneratedTokens: None is not a whole number"),
        (row(after=True), "^GeneratedTokens: True is not a whole number"),
        (row(after=0.5), r"^GeneratedTokens: 0\.5 is not a whole number"),
        (row(after=float("nan")), "^GeneratedTokens: nan is not a whole number"),
        (row(after="9" * 14), "^GeneratedTokens: '9+' is not"),
        (row(after=10**12 + 1), "^GeneratedTokens: 1000000000001 is not"),
        (row(after="²"), "^GeneratedTokens: '²' is not"),
        (row("yesterday"), "^TIMESTAMP: 'yesterday' is not a time"),
        (row(""), "^TIMESTAMP: '' is not a time"),
        (row(None), "^TIMESTAMP: None is not a time"),
        (row([1]), r"^TIMESTAMP: \[1\] is not a time"),
    ],
)
def test_a_fault_is_named(given: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(ShapeInvalid, match=sentence):
        call_of(0, given, LLM)


def test_properties_are_bounded() -> None:
    columns = Columns(properties={"a": "a", "b": "b"})
    fits = "x" * (PROPERTIES_MAX - 20)
    assert call_of(0, {"a": fits, "b": "y"}, columns).properties["a"] == fits
    with pytest.raises(ShapeInvalid, match=r"^b: the properties take more than 8,192 characters"):
        call_of(0, {"a": fits, "b": "y" * 20}, columns)


def test_calls_are_moved_in_time() -> None:
    by = timedelta(days=1_000)
    assert call_of(0, row(AT), LLM).moved(by).at == AT + by
    timeless = call_of(0, {"a": 1}, Columns())
    assert timeless.moved(by) == timeless


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.booleans())
def test_what_is_read_is_what_the_row_says(before: int, after: int, as_text: bool) -> None:
    shown = (str(before), str(after)) if as_text else (before, after)
    assert call_of(0, row(AT, *shown), LLM).actual == before + after
