"""Files of recorded calls: looked through whole first, then read again, always in a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from metering.domain.shapes.reading import ShapeInvalid
from metering.domain.traces import Columns, RecordedCall, call_of
from metering.management import tables
from metering.management.pinned import Pinned


class TraceInvalid(Exception):
    """A file is not a trace; the sentence names the file, the line, and what is wrong there."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A file of calls, of which at most `limit` are played, each at its time moved `by`.

    They come in the order of the file, which is not sorted by time.
    """

    file: Pinned
    kind: tables.Format
    columns: Columns
    limit: int | None = None
    by: timedelta = timedelta(0)

    def calls(self) -> Iterator[RecordedCall]:
        """The calls one after the other; raises TraceInvalid at the first row that is none, and
        FileChanged before the first one that is not what it was."""
        return islice(self._all(), self.limit)

    def _all(self) -> Iterator[RecordedCall]:
        path = self.file.path
        try:
            for number, (place, row) in enumerate(tables.placed(self.file, kind=self.kind)):
                try:
                    if isinstance(row, ShapeInvalid):
                        raise row
                    yield call_of(number, row, self.columns).moved(self.by)
                except ShapeInvalid as error:
                    raise TraceInvalid(f"{path}, {place}: {error.detail}.") from error
                except OverflowError as error:
                    said = f"{path}, {place}: moved, it lies in no year there is."
                    raise TraceInvalid(said) from error
        except tables.FileInvalid as error:
            raise TraceInvalid(f"{path}: {error}") from error


@dataclass(frozen=True, slots=True)
class Seen:
    """What a file has: how many calls, and when the first was that says when it was."""

    calls: int
    first_at: datetime | None


def look_through(trace: Trace, *, progress: Callable[[int], None]) -> Seen:
    """Read all calls of a file, so that nothing is played of one that has a fault.

    `progress` is told how many were read. Raises TraceInvalid, FileChanged.
    """
    calls, first_at = 0, None
    for call in trace.calls():
        calls += 1
        first_at = first_at or call.at
        progress(calls)
    if not calls:
        raise TraceInvalid(f"{trace.file.path}: there are no calls in the file.")
    return Seen(calls, first_at)
