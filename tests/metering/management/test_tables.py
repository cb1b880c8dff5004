"""metering.management.tables: rows of Parquet files, as fine as Python's times are."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from metering.domain.shapes.reading import ShapeInvalid
from metering.management.tables import FileInvalid, rows

THEN = datetime(2026, 11, 22, 7, 42, 12, 123_456)
THEN_NS = 1_795_333_332_123_456_789
STAMP = pyarrow.timestamp("ns")


def read(path: Path, columns: dict[str, Any], **written: Any) -> list[Any]:
    pyarrow.parquet.write_table(pyarrow.table(columns), path, **written)
    return [row for _, row in rows(path, kind="parquet")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.parquet"


@pytest.mark.parametrize(
    ("kind", "given", "found"),
    [
        (STAMP, THEN_NS, THEN),
        (pyarrow.timestamp("ns", "UTC"), THEN_NS, THEN.replace(tzinfo=UTC)),
        (pyarrow.time64("ns"), 3_600_000_001_999, time(1, 0, 0, 1)),
        (pyarrow.duration("ns"), 1_999, timedelta(microseconds=1)),
        (pyarrow.list_(STAMP), [THEN_NS, None], [THEN, None]),
        (pyarrow.large_list(STAMP), [THEN_NS, None], [THEN, None]),
        (pyarrow.list_(STAMP, 2), [THEN_NS, None], [THEN, None]),
        (pyarrow.map_(pyarrow.string(), STAMP), [("a", THEN_NS)], [("a", THEN)]),
        (pyarrow.map_(STAMP, pyarrow.string()), [(THEN_NS, "a")], [(THEN, "a")]),
        (
            pyarrow.struct([("at", pyarrow.list_(STAMP)), ("n", pyarrow.int8())]),
            {"at": [THEN_NS], "n": 1},
            {"at": [THEN], "n": 1},
        ),
    ],
)
def test_nanoseconds_are_cut_to_microseconds(
    path: Path, kind: Any, given: object, found: object
) -> None:
    column = pyarrow.array([given, None, given], kind)
    assert read(path, {"at": column, "n": [1, 2, 3]}) == [
        {"at": found, "n": 1},
        {"at": None, "n": 2},
        {"at": found, "n": 3},
    ]


def test_times_of_96_bits_reach_as_far_as_others(path: Path) -> None:
    last = datetime(9999, 12, 31, 23, 59, 59, 999_999)  # as nanoseconds, one of the year 1816
    column = pyarrow.array([THEN, None, last], pyarrow.timestamp("us"))
    found = read(path, {"at": column}, use_deprecated_int96_timestamps=True)
    assert found == [{"at": THEN}, {"at": None}, {"at": last}]


def test_a_cell_that_python_cannot_hold_is_the_fault_of_its_row(path: Path) -> None:
    far = pyarrow.array([0, 2**62, None], pyarrow.timestamp("us"))
    offsets = pyarrow.array([0, 1, 2, 4], pyarrow.int32()).buffers()[1]
    torn = pyarrow.StringArray.from_buffers(3, offsets, pyarrow.py_buffer(b"ab\xffc"))
    first, second, third = read(path, {"at": far, "note": torn})
    assert first == {"at": datetime(1970, 1, 1), "note": "a"}
    assert isinstance(second, ShapeInvalid)
    assert isinstance(third, ShapeInvalid)
    assert (second.param, third.param) == ("at", "note")
    assert second.detail.startswith("at cannot be read: ")


def test_a_zone_that_nobody_knows_is_the_fault_of_the_file(path: Path) -> None:
    column = pyarrow.array([THEN_NS], pyarrow.timestamp("ns", "Mars/Phobos"))
    with pytest.raises(FileInvalid, match="is no Parquet file"):
        read(path, {"at": column})
