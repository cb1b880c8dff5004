"""Files of rows: CSV, JSON lines and Parquet, read in a stream."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from metering.domain.bodies import BODY_MAX
from metering.domain.shapes.reading import ShapeInvalid
from metering.management.pinned import Pinned

Format = Literal["csv", "jsonl", "parquet"]
FORMATS: Final[tuple[Format, ...]] = ("csv", "jsonl", "parquet")
_BY_ENDING: Final[Mapping[str, Format]] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
# A cell too large to be sent is its row's fault; one that never ends may not fill the memory.
_CELL_MAX: Final = 8 * BODY_MAX
_AT_ONCE: Final = 1_000
# The number of a row, from 1, and what it says: its columns, or why it cannot be read.
Numbered = tuple[int, Mapping[str, Any] | ShapeInvalid]
Source = Path | Pinned
Placed = tuple[str, Mapping[str, Any] | ShapeInvalid]


class FileInvalid(Exception):
    """A file cannot be read at all; the sentence says why."""


def format_of(path: Path) -> Format:
    """The format that a file's name says; raises FileInvalid."""
    found = _BY_ENDING.get(path.suffix.lower())
    if found is None:
        raise FileInvalid(f"{path.name}: say --format, one of {', '.join(FORMATS)}.")
    return found


def digest_of(path: Path) -> str:
    """What tells a file's content apart, in 16 characters."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def count(path: Source, *, kind: Format) -> int:
    """How many rows a file has, having read all of it; raises FileInvalid.

    So nothing is sent of a file that turns out to be torn in its middle.
    """
    return sum(1 for _ in rows(path, kind=kind))


def rows(path: Source, *, kind: Format, after: int = 0) -> Iterator[Numbered]:
    """The rows of a file past the first `after`; memory does not grow with the file.

    A row that makes no sense is no fault of the others. Raises FileInvalid.
    """
    for number, (_, row) in enumerate(_READERS[kind](path), start=1):
        if number > after:
            yield number, row


def placed(path: Source, *, kind: Format) -> Iterator[Placed]:
    """The rows of a file, as `rows`, with where each of them stands: "line 3", or "row 3"."""
    what = "row" if kind == "parquet" else "line"
    for number, row in _READERS[kind](path):
        yield f"{what} {number:,}", row


# Each row is read with the number of its line, of a Parquet file with its own, from 1.


def _csv(path: Source) -> Iterator[Numbered]:
    csv.field_size_limit(_CELL_MAX)
    with (
        path.open("rb") as raw,
        io.TextIOWrapper(raw, "utf-8-sig", "surrogateescape", newline="") as file,
    ):
        reader = csv.reader(file, strict=True)
        try:
            names = next(reader, [])
            if not names or len(set(names)) < len(names):
                raise FileInvalid("The first line names the columns, each once.")
            for cells in reader:
                if cells:
                    yield reader.line_num, _row(names, cells)
        except csv.Error as error:
            raise FileInvalid(f"Line {reader.line_num} is no CSV: {error}.") from error


def _row(names: list[str], cells: list[str]) -> Mapping[str, Any] | ShapeInvalid:
    if len(cells) != len(names):
        detail = f"the row has {len(cells)} cells, the first line {len(names)}"
        return ShapeInvalid("parameter_invalid", names[0], detail)
    for name, cell in zip(names, cells, strict=True):
        if not cell.isprintable() and any("\udc80" <= each <= "\udcff" for each in cell):
            return ShapeInvalid("parameter_invalid", name, f"{name} is not UTF-8")
    return dict(zip(names, cells, strict=True))


def _jsonl(path: Source) -> Iterator[Numbered]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                found = msgspec.json.decode(line.removeprefix(b"\xef\xbb\xbf"), type=dict[str, Any])
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                fault = ShapeInvalid("body_malformed", "", f"the line is no JSON object: {error}")
                yield number, fault
            else:
                yield number, found


def _parquet(path: Source) -> Iterator[Numbered]:
    yield from enumerate(_rows_of_parquet(path), start=1)


def _rows_of_parquet(path: Source) -> Iterator[Mapping[str, Any] | ShapeInvalid]:
    if importlib.util.find_spec("pyarrow") is None:
        raise FileInvalid('Parquet needs the extra: pip install "farebox[parquet]".')
    import pyarrow
    import pyarrow.parquet

    try:
        # Times of 96 bits are read as nanoseconds else, which end in the year 2262.
        with (
            path.open("rb") as raw,
            pyarrow.parquet.ParquetFile(raw, coerce_int96_timestamp_unit="us") as file,
        ):
            for batch in file.iter_batches(batch_size=_AT_ONCE):
                fields = [field.with_type(_micro(field.type)) for field in batch.schema]
                yield from _of_batch(batch.cast(pyarrow.schema(fields), safe=False))
    except (pyarrow.ArrowException, OSError) as error:
        raise FileInvalid(f"{path.name} is no Parquet file: {error}") from error


def _micro(kind: Any) -> Any:
    """A type of Arrow with its times in microseconds at the finest, as Python has them."""
    import pyarrow
    from pyarrow import types

    def inside(field: Any) -> Any:
        return field.with_type(_micro(field.type))

    if types.is_timestamp(kind) and kind.unit == "ns":
        return pyarrow.timestamp("us", kind.tz)
    if types.is_time64(kind):
        return pyarrow.time64("us")
    if types.is_duration(kind) and kind.unit == "ns":
        return pyarrow.duration("us")
    if types.is_struct(kind):
        return pyarrow.struct([inside(each) for each in kind.fields])
    if types.is_map(kind):
        return pyarrow.map_(inside(kind.key_field), inside(kind.item_field), kind.keys_sorted)
    if types.is_list(kind):
        return pyarrow.list_(inside(kind.value_field))
    if types.is_large_list(kind):
        return pyarrow.large_list(inside(kind.value_field))
    if types.is_fixed_size_list(kind):
        return pyarrow.list_(inside(kind.value_field), kind.list_size)
    return kind


def _of_batch(batch: Any) -> Iterator[Mapping[str, Any] | ShapeInvalid]:
    import pyarrow

    try:
        found = batch.to_pylist()
    except pyarrow.ArrowException:  # of the whole column; some of these are ValueErrors
        raise
    except (ValueError, OverflowError):
        found = [_of_cells(batch, at) for at in range(batch.num_rows)]
    yield from found


def _of_cells(batch: Any, at: int) -> Mapping[str, Any] | ShapeInvalid:
    """One row by itself: a time of another era or a text that is no UTF-8 is its own fault."""
    found = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            found[name] = column[at].as_py()
        except (ValueError, OverflowError) as error:
            return ShapeInvalid("parameter_invalid", name, f"{name} cannot be read: {error}")
    return found


_READERS: Final[Mapping[Format, Callable[[Source], Iterator[Numbered]]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
