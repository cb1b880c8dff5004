"""metering.domain.shapes.table: what rows of files say, whatever is in them."""

from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.shapes.reading import ShapeInvalid, Told
from metering.domain.shapes.table import DEPTH_MAX, Layout, translate
from tests.metering.domain.shapes.hostile import anything

THEN = datetime(2026, 11, 22, 7, 42, 12, tzinfo=UTC)
ROW: dict[str, Any] = {
    "id": "1",
    "source": "billing-export",
    "type": "api.call",
    "subject": "acme",
    "time": "2026-11-22T07:42:12Z",
}
PLAIN = Layout()
cells = (
    anything
    | st.binary(max_size=3)
    | st.decimals()
    | st.floats()
    | st.datetimes()
    | st.datetimes(timezones=st.timezones())
    | st.dates()
    | st.lists(st.decimals() | st.binary(max_size=3), max_size=2)
    | st.sampled_from(['{"a": "\\ud800"}', '{"\\udfff": 1}', "\ud800", ["\udc80"]])
)


def told(row: dict[str, Any], layout: Layout = PLAIN) -> Told:
    return translate(row, layout).told


def test_a_row_by_the_usual_names() -> None:
    row = ROW | {"quantity": "7", "model": "m-1", "status": "200", "price": "0.50", "empty": ""}
    found = translate(row, PLAIN)
    assert found.source == "billing-export"
    assert found.told == Told(
        id="1",
        subject="acme",
        type="api.call",
        occurred_at=THEN,
        data={"quantity": 7, "model": "m-1", "status": 200, "price": "0.50"},
    )


def test_a_leap_second_with_an_offset_and_without_one() -> None:
    last = datetime(2016, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    assert told(ROW | {"time": "2016-12-31T23:59:60Z"}).occurred_at == last
    local = ROW | {"time": "2016-12-31 23:59:60"}
    assert told(local, Layout(naive_is_utc=True)).occurred_at == last
    with pytest.raises(ShapeInvalid, match="needs an offset"):
        told(local)


def test_other_names_and_what_is_the_same_in_every_row() -> None:
    layout = Layout(
        id="key",
        time="at",
        quantity="n",
        always={"type": "llm.completion", "subject": "globex", "source": "file"},
        properties={"model": "m", "region": "r"},
    )
    row = {"key": 5, "at": 1_795_333_332, "n": 3.0, "m": "m-1", "r": None, "type": "x", "z": 1}
    found = translate(row, layout)
    assert found.source == "file"
    assert found.told == Told(
        id="5",
        subject="globex",
        type="llm.completion",
        occurred_at=THEN,
        data={"quantity": 3, "model": "m-1"},
    )


@pytest.mark.parametrize("data", ['{"tokens": 5, "quantity": 2}', {"tokens": 5, "quantity": 2}])
def test_properties_in_a_column_of_their_own(data: object) -> None:
    exported = ROW | {"data": data, "usage": "{}", "received_at": "x"}
    assert told(exported).data == {"tokens": 5, "quantity": 2}
    assert told(exported | {"quantity": 9}).data == {"tokens": 5, "quantity": 9}
    named = Layout(properties={"got": "received_at"})
    assert told(exported, named).data == {"tokens": 5, "quantity": 2, "got": "x"}
    for nothing in (None, "", "-"):
        assert told(exported | {"data": nothing}).data == {}


def test_cells_of_parquet() -> None:
    row = ROW | {
        "time": THEN.astimezone(timezone(timedelta(hours=2))),
        "price": Decimal("1.50"),
        "tokens": Decimal(7),
        "day": date(2026, 11, 22),
        "seen": THEN,
        "tags": ["a", "b"],
        "ok": True,
    }
    found = told(row)
    assert found.occurred_at == THEN
    assert found.data == {
        "price": "1.5",
        "tokens": 7,
        "day": "2026-11-22",
        "seen": "2026-11-22T07:42:12+00:00",
        "tags": ["a", "b"],
        "ok": True,
    }


def test_decimals_inside_are_numbers_as_in_a_cell_and_texts_stay_texts() -> None:
    inside = {"n": Decimal("5.00"), "price": Decimal("1.50"), "zip": "10115", "ok": [True, None]}
    same = {"n": 5, "price": "1.5", "zip": "10115", "ok": [True, None]}
    assert told(ROW | {"data": inside | {"more": [inside]}}).data == same | {"more": [same]}
    assert told(
        ROW | {"usage": inside, "all": [Decimal(7)], "pairs": [("a", Decimal(8))]}
    ).data == {
        "usage": same,
        "all": [7],
        "pairs": [["a", 8]],
    }


@pytest.mark.parametrize(
    ("value", "said"),
    [("0E-38", 0), ("0.00", 0), ("-7.0", -7), ("1E+40", "1E+40"), (f"1{'0' * 32}", f"1{'0' * 32}")],
)
def test_a_decimal_of_any_size_says_something(value: str, said: object) -> None:
    row = ROW | {"n": Decimal(value), "all": [Decimal(value)]}
    assert told(row).data == {"n": said, "all": [said]}


def nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


def test_what_is_nested_too_deep_is_the_fault_of_its_row() -> None:
    deepest = nested(DEPTH_MAX)
    assert told(ROW | {"tree": deepest}).data == {"tree": deepest}
    assert told(ROW | {"data": {"tree": deepest[0]}}).data == {"tree": deepest[0]}
    for change in ({"tree": [deepest]}, {"data": {"tree": deepest}}):
        with pytest.raises(ShapeInvalid, match="nested more than 200 deep"):
            told(ROW | change)


def test_times_without_an_offset_are_utc_only_where_somebody_says_so() -> None:
    utc = Layout(naive_is_utc=True)
    for naive in ("2026-11-22 07:42:12", THEN.replace(tzinfo=None)):
        with pytest.raises(ShapeInvalid) as caught:
            told(ROW | {"time": naive})
        assert caught.value.param == "time"
        assert told(ROW | {"time": naive}, utc).occurred_at == THEN
    for other in ("1795333332", "2026-11-22T08:42:12+01:00", "22/Nov/2026:07:42:12 +0000", THEN):
        assert told(ROW | {"time": other}, utc).occurred_at == THEN
    assert told(ROW | {"time": None}, utc).occurred_at is None


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"id": ""}, "id"),
        ({"type": None}, "type"),
        ({"subject": "-"}, "subject"),
        ({"time": "soon"}, "time"),
        ({"data": "{"}, "data"),
        ({"data": "[1]"}, "data"),
        ({"data": [1]}, "data"),
        ({"blob": b"x"}, "blob"),
        ({"data": '{"a": "\\ud800"}'}, "data"),
        ({"data": '{"a": ["\\ud800"]}'}, "data"),
        ({"data": '{"\\udfff": 1}'}, "data"),
        ({"note": "\ud800"}, "note"),
    ],
)
def test_rows_that_cannot_be_sent(change: dict[str, Any], param: str) -> None:
    with pytest.raises(ShapeInvalid) as caught:
        told(ROW | change)
    assert caught.value.param == param


def test_a_row_without_an_id_may_be_given_one() -> None:
    assert translate(ROW | {"id": None}, PLAIN, id_="file-7").told.id == "file-7"
    assert translate(ROW, PLAIN, id_="file-7").told.id == "1"


@given(
    st.dictionaries(st.sampled_from([*ROW, "data", "quantity", "x"]), cells, max_size=8),
    st.booleans(),
)
def test_whatever_a_row_holds_it_is_told_or_refused(row: dict[str, Any], utc: bool) -> None:
    layout = Layout(naive_is_utc=utc)
    for each in (row, ROW | row):
        with contextlib.suppress(ShapeInvalid):
            found = translate(each, layout, id_="row-1")
            assert found.told.id
            assert found.told.subject
            # What is told can be sent.
            msgspec.json.encode(found.told.data)
            assert found.told.occurred_at is None or found.told.occurred_at.tzinfo is not None
