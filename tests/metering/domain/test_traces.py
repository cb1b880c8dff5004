"""Reading traces: whole and exact, or a sentence with the line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.traces import PRESETS, Columns, RecordedCall, TraceInvalid, read_trace, shifted

LLM = PRESETS["llm-trace"]
HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens"


def test_a_trace_of_language_models_is_read_in_order() -> None:
    lines = [HEAD, "2023-11-16 18:17:03.9799600,4808,10", "", "2023-11-16T18:17:04+01:00,3180,8"]

    first, second = read_trace(lines, columns=LLM)

    at = datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)
    assert first == RecordedCall(0, at, 4808, 10, {})
    assert first.actual == 4818
    assert second.number == 1
    assert second.at == datetime(2023, 11, 16, 17, 17, 4, tzinfo=UTC)


def test_columns_may_have_other_names_and_become_properties() -> None:
    columns = Columns(output="out", properties={"model": "Model", "region": "Where"})
    lines = ["Where,Model,out", '"eu, west",gpt,5']

    (call,) = read_trace(lines, columns=columns)

    assert call == RecordedCall(0, None, 0, 5, {"model": "gpt", "region": "eu, west"})


def test_without_quantities_every_call_counts_as_one() -> None:
    assert [call.actual for call in read_trace(["a", "x", "y"], columns=Columns())] == [1, 1]


def test_only_the_first_calls_are_read_where_there_is_a_limit() -> None:
    lines = [HEAD, *["2023-11-16 18:17:03,1,1"] * 5]

    assert len(read_trace(lines, columns=LLM, limit=2)) == 2


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], r"^Line 1: the file is empty"),
        ([HEAD], r"^Line 2: there are no calls"),
        (["TIMESTAMP,ContextTokens"], r"^Line 1: there is no column 'GeneratedTokens'; there are"),
        ([HEAD, "2023-11-16,1"], r"^Line 2 has 2 values, not 3"),
        ([HEAD, "2023-11-16,1,1", "2023-11-16,1.5,1"], r"^Line 3, ContextTokens: '1\.5' is not"),
        ([HEAD, "2023-11-16,1,-1"], r"^Line 2, GeneratedTokens: '-1' is not a whole number"),
        ([HEAD, "2023-11-16,1,"], r"^Line 2, GeneratedTokens: '' is not a whole number"),
        ([HEAD, "2023-11-16,1," + "9" * 14], r"^Line 2, GeneratedTokens: '9+' is not"),
        ([HEAD, "2023-11-16,1,²"], r"^Line 2, GeneratedTokens: '²' is not"),
        ([HEAD, "yesterday,1,1"], r"^Line 2, TIMESTAMP: 'yesterday' is not a time"),
        ([HEAD, '2023-11-16,"1,1'], r"^Line 2 is not CSV"),
    ],
)
def test_a_fault_is_named_with_its_line(lines: list[str], sentence: str) -> None:
    with pytest.raises(TraceInvalid, match=sentence):
        read_trace(lines, columns=LLM)


def test_calls_are_moved_in_time_and_stay_as_far_apart() -> None:
    lines = [HEAD, "2023-11-16 18:00:00,1,1", "2023-11-16 18:00:07.5,1,1"]
    start_at = datetime(2026, 11, 1, tzinfo=UTC)

    first, second = shifted(read_trace(lines, columns=LLM), start_at=start_at)

    assert first.at == start_at
    assert second.at == start_at + timedelta(seconds=7.5)
    timeless = read_trace(["a", "x"], columns=Columns())
    assert shifted(timeless, start_at=start_at) == timeless


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**12)), min_size=1, max_size=40))
def test_the_sum_of_what_is_read_is_the_sum_of_the_file(rows: list[tuple[int, int]]) -> None:
    lines = [HEAD, *(f"2023-11-16,{before},{after}" for before, after in rows)]

    calls = read_trace(lines, columns=LLM)

    assert sum(call.actual for call in calls) == sum(map(sum, rows))
