"""metering.management.recordings: traces in every format, in a stream, or the line at fault."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from metering.domain.traces import PRESETS
from metering.management import tables
from metering.management.pinned import pin
from metering.management.recordings import Trace, TraceInvalid, look_through

HEAD = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
Row = tuple[Any, ...]


def rows(many: int) -> Iterable[Row]:
    return ((BEGIN + timedelta(seconds=number), number, 1) for number in range(many))


def csv_file(path: Path, found: Iterable[Row]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEAD)
        writer.writerows(found)
    return path


def jsonl_file(path: Path, found: Iterable[Row]) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for row in found:
            file.write(json.dumps(dict(zip(HEAD, row, strict=False)), default=str) + "\n")
    return path


def parquet_file(path: Path, found: Iterable[Row]) -> Path:
    columns = list(zip(*found, strict=True)) or [(), (), ()]
    table = pyarrow.table(dict(zip(HEAD, map(list, columns), strict=True)))
    pyarrow.parquet.write_table(table, path, row_group_size=1_000)
    return path


FILES: dict[tables.Format, Callable[[Path, Iterable[Row]], Path]] = {
    "csv": csv_file,
    "jsonl": jsonl_file,
    "parquet": parquet_file,
}


def trace_of(path: Path, kind: tables.Format, **more: Any) -> Trace:
    return Trace(pin(path), kind, PRESETS["llm-trace"], **more)


def nothing(_: int) -> None:
    """Nobody looks."""


@pytest.mark.parametrize("kind", tables.FORMATS)
def test_all_formats_say_the_same(tmp_path: Path, kind: tables.Format) -> None:
    path = FILES[kind](tmp_path / "trace", rows(3))
    told: list[int] = []
    seen = look_through(trace_of(path, kind), progress=told.append)
    assert (seen.calls, seen.first_at, told) == (3, BEGIN, [1, 2, 3])
    calls = list(trace_of(path, kind, by=timedelta(days=1), limit=2).calls())
    assert [(each.number, each.actual) for each in calls] == [(0, 1), (1, 2)]
    assert [each.at for each in calls] == [BEGIN + timedelta(days=1, seconds=n) for n in (0, 1)]


@pytest.mark.parametrize("kind", tables.FORMATS)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, kind: tables.Format) -> None:
    """Python's own: what Arrow takes for a group of rows is not seen here, and bounded by it."""
    peaks = []
    for many in (2_000, 10_000):
        trace = trace_of(FILES[kind](tmp_path / f"{many}", rows(many)), kind)
        tracemalloc.start()
        try:
            assert look_through(trace, progress=nothing).calls == many
            assert sum(1 for _ in trace.calls()) == many
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 300_000, peaks


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("csv", "", "the first line names the columns"),
        ("csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "there are no calls in the file"),
        ("csv", "TIMESTAMP,ContextTokens\n1,1\n", "line 2: there is no 'GeneratedTokens'"),
        ("csv", ",".join(HEAD) + "\n\n2026-11-01,1\n", "line 3: the row has 2 cells"),
        ("csv", ",".join(HEAD) + '\n2026-11-01,"1,1\n', "line 2 is no csv"),
        ("csv", ",".join(HEAD) + "\n2026-11-01,1,-1\n", "line 2: generatedtokens: '-1' is not"),
        ("jsonl", '\n{"TIMESTAMP": 1}\n', "line 2: there is no 'contexttokens'"),
        ("jsonl", "[]\n", "line 1: the line is no json object"),
        ("jsonl", "\n", "there are no calls in the file"),
        ("parquet", "PAR1", "is no parquet file"),
    ],
)
def test_a_fault_is_told_with_file_and_line(
    tmp_path: Path, kind: tables.Format, content: str, said: str
) -> None:
    path = tmp_path / "trace"
    path.write_text(content)
    with pytest.raises(TraceInvalid) as caught:
        look_through(trace_of(path, kind), progress=nothing)
    assert str(caught.value).startswith(f"{path}")
    assert said.lower() in str(caught.value).lower()


def test_the_row_of_a_parquet_file(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "trace", [(BEGIN, 1, 1), (BEGIN, 1, None)])
    with pytest.raises(TraceInvalid, match="trace, row 2: GeneratedTokens: None is not a whole"):
        look_through(trace_of(path, "parquet"), progress=nothing)


def test_a_cell_that_goes_over_lines_does_not_move_the_number_of_the_line(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("note," + ",".join(HEAD) + '\n"a\nb",2026-11-01,1,1\nc,2026-11-01,1,x\n')
    with pytest.raises(TraceInvalid, match="line 4: GeneratedTokens"):
        look_through(trace_of(path, "csv"), progress=nothing)


def test_a_call_cannot_be_moved_out_of_time(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "trace.csv", rows(1))
    trace = trace_of(path, "csv", by=timedelta(days=3_000_000))
    with pytest.raises(TraceInvalid, match="line 2: moved, it lies in no year there is"):
        list(trace.calls())
