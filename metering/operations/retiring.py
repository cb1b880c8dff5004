"""Retention: months of raw events that nothing needs are exported, detached and dropped.

A month goes through its steps one by one, each written down in its RetiredMonth before the next:
whoever is killed in between leaves a step that is done again, or was done. Rollups, balances and
invoices stay. Two workers never work on one month: a step locks its row, or leaves it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog
from django.db import OperationalError, connection, transaction

from metering import statements
from metering.domain.retention import gone_until, retirable
from metering.domain.windows import add_months
from metering.models import RetiredMonth
from metering.queries.retention import months_present, windows_in_force_from

log = structlog.get_logger(__name__)
EVENTS_PER_FILE: Final = 500_000
_PARTS = "parts.jsonl"  # one line for each file that is complete
_AT_ONCE = 2_000


class ExportIncomplete(Exception):
    """The files of a month have not as many events as its partition; nothing was dropped."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One file of an export, and the key of the last event in it."""

    file: str
    events: int
    sha256: str
    last_customer: int
    last_id: str


def retire(
    *,
    now: datetime,
    kept_months: int,
    folder: Path,
    needed_from: datetime,
    events_per_file: int = EVENTS_PER_FILE,
) -> list[str]:
    """Bring every month that may go as far as it comes; returns the steps done, as sentences.

    `needed_from`: since when billing may still ask for events; windows that last are looked at
    here. Files go to `folder`/usageevents-YYYY-MM. Raises ExportIncomplete, OSError; what was
    done until then stays done.
    """
    place = _Place(folder, events_per_file=events_per_file)
    begun = RetiredMonth.objects.filter(detached_at__isnull=False, dropped_at__isnull=True)
    done = [said for month in begun for said in _go_on(month.month, place, now=now)]
    needed = min(needed_from, windows_in_force_from(now=now))
    for month in retirable(months_present(), now=now, kept_months=kept_months, needed_from=needed):
        done += _go_on(month, place, now=now)
        if month in months_present():
            break  # somebody else is at it, or calls would have to wait
    return done


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the files go, and how long they are."""

    folder: Path
    events_per_file: int


def _go_on(month: date, place: _Place, *, now: datetime) -> Iterator[str]:
    """Take a month's steps until it is dropped or one cannot be taken now; says what was done."""
    to = place.folder / f"usageevents-{month:%Y-%m}"
    RetiredMonth.objects.get_or_create(month=month, defaults={"exported_to": str(to)})
    try:
        while True:
            with transaction.atomic():
                row = _claim(month)
                if row is None or row.dropped_at is not None:
                    return
                said = _take_step(row, events_per_file=place.events_per_file, now=now)
                row.save()
            if said:
                yield f"{month:%Y-%m}: {said}"
    except OperationalError as error:
        log.warning("retention.not_now", month=f"{month:%Y-%m}", error=str(error))


def _take_step(row: RetiredMonth, *, events_per_file: int, now: datetime) -> str:
    """Take the next step of a month, in the caller's transaction; says what it finished."""
    table = f"metering_usageevent_{row.month:%Y%m}"
    if row.exported_at is None:
        to = Path(row.exported_to)
        written = _write_part(row.month, to, events_per_file=events_per_file)
        row.events = sum(part.events for part in _parts(to))
        if written:
            return ""
        _compare(row)
        row.exported_at = now
        return f"{row.events:,} events exported to {to}"
    if row.detached_at is None:
        # The lock stops every call for as long as it waits for others: rather try again later.
        _run("SET LOCAL lock_timeout = '300ms'")
        _run(f"ALTER TABLE metering_usageevent DETACH PARTITION {table}")
        row.detached_at = now
        return f"detached; usage before {gone_until(row.month):%F %H:%M} is in rollups"
    _run(f"DROP TABLE IF EXISTS {table}")
    row.dropped_at = now
    return "dropped"


def _run(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def _claim(month: date) -> RetiredMonth | None:
    return RetiredMonth.objects.select_for_update(skip_locked=True).filter(month=month).first()


def _write_part(month: date, place: Path, *, events_per_file: int) -> bool:
    """Write the next file, if there are further events; it is complete or not there."""
    place.mkdir(parents=True, exist_ok=True)
    parts = _parts(place)
    name = f"part-{len(parts) + 1:05}.jsonl.gz"
    partial, sha, events, last = place / f"{name}.partial", hashlib.sha256(), 0, (0, "")
    with partial.open("wb") as file:
        # Without a time in it, the same events make the same bytes.
        with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as packed:
            for customer_id, event_id, text in _events(
                month, after=parts[-1] if parts else None, limit=events_per_file
            ):
                line = f"{text}\n".encode()
                packed.write(line)
                sha.update(line)
                events, last = events + 1, (customer_id, str(event_id))
        file.flush()
        os.fsync(file.fileno())
    if not events:
        partial.unlink()
        return False
    partial.replace(place / name)
    _sync(place)
    _note(place, _Part(name, events, sha.hexdigest(), *last))
    return True


def _note(place: Path, part: _Part) -> None:
    with (place / _PARTS).open("ab") as file:
        file.write(f"{json.dumps(asdict(part))}\n".encode())
        file.flush()
        os.fsync(file.fileno())
    _sync(place)


def _sync(folder: Path) -> None:
    """Let the names in a folder outlive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parts(place: Path) -> list[_Part]:
    """The files that are complete; a line that a kill has cut short is none, and is taken away."""
    path, parts, whole = place / _PARTS, [], 0
    if not path.exists():
        return []
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            os.truncate(path, whole)
            break
        parts.append(_Part(**json.loads(line)))
        whole += len(line)
    return parts


def _events(month: date, *, after: _Part | None, limit: int) -> Iterator[tuple[int, UUID, str]]:
    """The next events of the month, streamed; the caller has a transaction."""
    connection.ensure_connection()
    with connection.connection.cursor(name="export_events") as cursor:
        cursor.itersize = _AT_ONCE
        cursor.execute(
            statements.load("export_events"),
            {
                "month": month,
                "end": add_months(datetime(month.year, month.month, 1), 1).date(),  # noqa: DTZ001
                "after_customer": after.last_customer if after else -1,
                "after_id": after.last_id if after else str(UUID(int=0)),
                "limit": limit,
            },
        )
        yield from cursor


def _compare(row: RetiredMonth) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM metering_usageevent WHERE received_month = %s", [row.month]
        )
        (there,) = cursor.fetchone()
    if there != row.events:
        raise ExportIncomplete(
            f"{row.month:%Y-%m}: {row.events:,} events are in {row.exported_to}, {there:,} in the"
            " database. Move the folder away, and the month is exported again."
        )
