"""Traces: recorded calls, read from CSV by the names of its columns, whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from accounts.domain.instants import read_instant

QUANTITY_MAX: Final = 10**12


class TraceInvalid(Exception):
    """A file is not a trace; the sentence names the line and what is wrong there."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column says what. `properties`: name on the event -> column.

    Without `input` and `output` every call counts as 1.
    """

    time: str | None = None
    input: str | None = None
    output: str | None = None
    properties: Mapping[str, str] | None = None

    def names(self) -> list[str]:
        """Every column that must be there."""
        named = [self.time, self.input, self.output, *(self.properties or {}).values()]
        return [name for name in named if name is not None]


PRESETS: Final[Mapping[str, Columns]] = {
    # One row a call: when, tokens of the prompt, tokens of the answer.
    "llm-trace": Columns(time="TIMESTAMP", input="ContextTokens", output="GeneratedTokens"),
}


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call: its number in the file from 0, its quantities in the meter's unit."""

    number: int
    at: datetime | None
    input: int
    output: int
    properties: Mapping[str, str]

    @property
    def actual(self) -> int:
        """What it really used."""
        return self.input + self.output


def read_trace(
    lines: Iterable[str], *, columns: Columns, limit: int | None = None
) -> list[RecordedCall]:
    """The calls in the order of the file, at most `limit`; raises TraceInvalid."""
    reader = csv.reader(lines, strict=True)
    calls: list[RecordedCall] = []
    try:
        head = next(reader, None)
        if not head:
            raise TraceInvalid("Line 1: the file is empty; a line with the columns' names is due.")
        places = _places(head, columns)
        for row in reader:
            if limit is not None and len(calls) >= limit:
                break
            if row:
                where = f"Line {reader.line_num}"
                if len(row) != len(head):
                    raise TraceInvalid(f"{where} has {len(row)} values, not {len(head)}.")
                calls.append(_call(len(calls), row, places, columns, where=where))
    except csv.Error as error:
        raise TraceInvalid(f"Line {reader.line_num} is not CSV: {error}.") from error
    if not calls:
        raise TraceInvalid("Line 2: there are no calls in the file.")
    return calls


def shifted(calls: Sequence[RecordedCall], *, start_at: datetime) -> list[RecordedCall]:
    """The calls as far apart as they were, the first of them at `start_at`."""
    first = next((call.at for call in calls if call.at is not None), None)
    if first is None:
        return list(calls)
    return [
        RecordedCall(
            call.number,
            None if call.at is None else start_at + (call.at - first),
            call.input,
            call.output,
            call.properties,
        )
        for call in calls
    ]


def _places(head: Sequence[str], columns: Columns) -> dict[str, int]:
    names = [name.strip().removeprefix("\ufeff") for name in head]
    for name in columns.names():
        if name not in names:
            raise TraceInvalid(
                f"Line 1: there is no column {name!r}; there are {', '.join(names)}."
            )
    return {name: names.index(name) for name in columns.names()}


def _call(
    number: int, row: Sequence[str], places: Mapping[str, int], columns: Columns, *, where: str
) -> RecordedCall:
    def value(column: str) -> str:
        return row[places[column]].strip()

    at = None
    if columns.time is not None:
        at = _moment(value(columns.time), where=f"{where}, {columns.time}")
    counted = columns.input is not None or columns.output is not None
    return RecordedCall(
        number,
        at,
        _whole(value(columns.input), where=f"{where}, {columns.input}")
        if columns.input is not None
        else int(not counted),
        _whole(value(columns.output), where=f"{where}, {columns.output}")
        if columns.output is not None
        else 0,
        {name: value(column) for name, column in (columns.properties or {}).items()},
    )


def _whole(text: str, *, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(QUANTITY_MAX))):
        raise TraceInvalid(f"{where}: {text[:40]!r} is not a whole number of 0 or more.")
    return int(text)


def _moment(text: str, *, where: str) -> datetime:
    try:
        at = read_instant(text)
    except ValueError as error:
        raise TraceInvalid(f"{where}: {text[:40]!r} is not a time (ISO 8601).") from error
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
