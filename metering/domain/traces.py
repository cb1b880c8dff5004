"""Traces: recorded calls, each read from a row of a file by the names of its columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from metering.domain.shapes.reading import ShapeInvalid, whole
from metering.domain.shapes.table import moment_in, value_in

QUANTITY_MAX: Final = 10**12
PROPERTIES_MAX: Final = 8_192  # characters of JSON, so that calls that wait are bounded
_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column says what. `properties`: name on the event -> column.

    Without `input` and `output` every call counts as 1.
    """

    time: str | None = None
    input: str | None = None
    output: str | None = None
    properties: Mapping[str, str] | None = None


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
    properties: Mapping[str, object]

    @property
    def actual(self) -> int:
        """What it really used."""
        return self.input + self.output

    def moved(self, by: timedelta) -> RecordedCall:
        """The same call at another time; raises OverflowError where there is no such time."""
        return self if self.at is None else replace(self, at=self.at + by)


def call_of(number: int, row: Mapping[str, Any], columns: Columns) -> RecordedCall:
    """The call that a row records; a time without an offset is UTC. Raises ShapeInvalid."""
    counted = columns.input is not None or columns.output is not None
    return RecordedCall(
        number,
        None if columns.time is None else _moment(row, columns.time),
        int(not counted) if columns.input is None else _whole(row, columns.input),
        0 if columns.output is None else _whole(row, columns.output),
        _properties(row, columns.properties or {}),
    )


def _cell(row: Mapping[str, Any], column: str) -> object:
    """What a row has in a column, whose name may stand between blanks; texts without theirs."""
    if column not in row:
        padded = next((name for name in row if name.strip() == column), None)
        if padded is None:
            there = ", ".join(row)
            raise ShapeInvalid(
                "parameter_missing", column, f"there is no {column!r}; there are {there}"
            )
        column = padded
    value = row[column]
    return value.strip() if isinstance(value, str) else value


def _properties(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, object]:
    """Texts as they are, all else as JSON has it; what is null is left out."""
    found: dict[str, object] = {}
    for name, column in columns.items():
        value = _cell(row, column)
        if value is not None:
            text = isinstance(value, str)
            found[name] = value if text else value_in(value, column=column)
            if len(json.dumps(found, default=str)) > PROPERTIES_MAX:
                detail = f"{column}: the properties take more than {PROPERTIES_MAX:,} characters"
                raise ShapeInvalid("parameter_invalid", column, detail)
    return found


def _whole(row: Mapping[str, Any], column: str) -> int:
    value = _cell(row, column)
    if isinstance(value, str):
        digits = value.isascii() and value.isdigit() and len(value) <= len(str(QUANTITY_MAX))
        found = int(value) if digits else None
    else:
        found = whole(value_in(value, column=column))
    if found is None or not 0 <= found <= QUANTITY_MAX:
        detail = f"{column}: {_shown(value)} is not a whole number of 0 to {QUANTITY_MAX:,}"
        raise ShapeInvalid("quantity_invalid", column, detail)
    return found


def _moment(row: Mapping[str, Any], column: str) -> datetime:
    value = _cell(row, column)
    try:
        found = moment_in(value, column=column, naive_is_utc=True)
    except ShapeInvalid:
        found = None
    if found is None:
        detail = f"{column}: {_shown(value)} is not a time (RFC 3339, or Unix seconds)"
        raise ShapeInvalid("parameter_invalid", column, detail)
    return found


def _shown(value: object) -> str:
    return repr(value[:_SHOWN] if isinstance(value, str) else value)[: _SHOWN + 2]
