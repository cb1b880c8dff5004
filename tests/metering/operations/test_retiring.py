"""metering.operations.retiring: nothing is lost, whoever dies between two steps."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction

from accounts.models import Customer
from metering.models import Correction, RetiredMonth, UsageEvent
from metering.operations.checking import broken_invariants
from metering.operations.retiring import ExportIncomplete, retire
from metering.operations.rolling_up import roll_up
from metering.queries.retention import months_present
from metering.queries.usage import EventsGone, usage, usage_total
from tests.factories.metering import NOW, make_customer, make_entitlement, make_meter
from tests.factories.threads import at_once
from tests.factories.usage import count_on

OLD, OLDER = date(2026, 5, 1), date(2026, 4, 1)


def make_month(month: date) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT metering_make_partition(%s)", [month])


def old_events(
    customer: Customer, number: int, *, month: date = OLD, meter: Any = None
) -> list[UsageEvent]:
    """Events of a month that has a partition of its own."""
    make_month(month)
    meter = meter or make_meter()
    found = []
    for n in range(number):
        at = datetime(month.year, month.month, 3, 12, tzinfo=UTC) + timedelta(minutes=n)
        found.append(count_on(customer, meter, 5, at=at, properties={"n": n}, received_month=month))
    return found


def lines(folder: Path, month: date = OLD) -> list[dict[str, Any]]:
    files = sorted((folder / f"usageevents-{month:%Y-%m}").glob("*.gz"))
    text = b"".join(gzip.decompress(file.read_bytes()) for file in files)
    return [json.loads(line) for line in text.splitlines()]


def go(folder: Path, **changed: Any) -> list[str]:
    asked: dict[str, Any] = {"now": NOW, "kept_months": 3, "needed_from": NOW, "folder": folder}
    return retire(**asked | changed)


@pytest.mark.django_db
def test_a_month_is_exported_detached_and_dropped(tmp_path: Path) -> None:
    customer, meter = make_customer(), make_meter()
    events = old_events(customer, 5, meter=meter)
    Correction.objects.create(
        customer_id=customer.id,
        event_id=events[0].id,
        received_month=events[0].received_month,
        number=1,
        kind="void",
        occurred_at=events[0].occurred_at,
        usage={},
        reason="a mistake",
        actor="opk_1",
        at=NOW,
    )
    kept = count_on(customer, meter, 7, at=NOW)
    roll_up(limit=10)
    done = go(tmp_path, events_per_file=2)
    assert [each.partition(":")[2].split()[-1] for each in done][-1] == "dropped"
    assert len(done) == 3
    found = lines(tmp_path)
    assert {each["external_id"] for each in found} == {each.external_id for each in events}
    assert sorted(len(each["corrections"]) for each in found) == [0, 0, 0, 0, 1]
    assert found[0]["usage"] == {str(meter.id): 5}
    month = RetiredMonth.objects.get()
    assert (month.month, month.events) == (OLD, 5)
    assert None not in {month.exported_at, month.detached_at, month.dropped_at}
    assert OLD not in months_present()
    assert list(UsageEvent.objects.values_list("id", flat=True)) == [kept.id]
    # The files say themselves whether they are whole.
    place = tmp_path / "usageevents-2026-05"
    for line in (place / "parts.jsonl").read_text().splitlines():
        part = json.loads(line)
        data = gzip.decompress((place / part["file"]).read_bytes())
        assert hashlib.sha256(data).hexdigest() == part["sha256"]
    assert go(tmp_path) == []


@pytest.mark.django_db
def test_usage_of_what_is_gone_stays_exact_by_whole_hours(tmp_path: Path) -> None:
    customer, meter = make_customer(), make_meter()
    make_entitlement(customer, meter, window="lifetime")
    old_events(customer, 5, meter=meter)
    roll_up(limit=10)
    go(tmp_path)
    asked: dict[str, Any] = {"meter_id": meter.id, "end_at": NOW}
    first = datetime(2026, 5, 3, 12, tzinfo=UTC)
    assert usage_total(customer.id, start_at=first, **asked) == 25
    with pytest.raises(EventsGone):
        usage_total(customer.id, start_at=first + timedelta(minutes=2), **asked)
    with pytest.raises(EventsGone):
        usage(customer.id, start_at=first + timedelta(minutes=2), **asked)
    # What cannot be counted from events any more is no fault.
    assert broken_invariants(now=NOW, since=datetime(2026, 1, 1, tzinfo=UTC)) == []


@pytest.mark.django_db
def test_months_that_something_needs_stay(tmp_path: Path) -> None:
    customer, meter = make_customer(), make_meter()
    old_events(customer, 2, month=OLDER, meter=meter)
    old_events(customer, 2, month=OLD, meter=meter)
    assert go(tmp_path, kept_months=7) == []
    assert go(tmp_path, needed_from=datetime(2026, 4, 9, tzinfo=UTC)) == []
    right = make_entitlement(customer, meter, window="year")
    assert go(tmp_path) == []
    assert not any(tmp_path.iterdir())
    assert not RetiredMonth.objects.exists()
    type(right).objects.update(window="lifetime")
    assert len(go(tmp_path, needed_from=datetime(2026, 5, 9, tzinfo=UTC))) == 3
    assert (OLDER in months_present(), OLD in months_present()) == (False, True)


@pytest.mark.django_db
def test_what_a_kill_has_left_is_done_again(tmp_path: Path) -> None:
    events = old_events(make_customer(), 6)
    with pytest.raises(OSError):  # noqa: PT011  (whatever the disk says)
        go(Path("/proc/no-such-folder"))
    RetiredMonth.objects.all().delete()
    # Killed after its first file and in the middle of writing down the second.
    with transaction.atomic():
        go(tmp_path, events_per_file=2)
        transaction.set_rollback(True)
    place = tmp_path / "usageevents-2026-05"
    noted = (place / "parts.jsonl").read_bytes().splitlines(keepends=True)
    (place / "parts.jsonl").write_bytes(noted[0] + noted[1][:20])
    (place / "part-00003.jsonl.gz").unlink()
    (place / "part-00003.jsonl.gz.partial").write_bytes(b"half")
    go(tmp_path, events_per_file=2)
    assert len(lines(tmp_path)) == 6
    assert {each["external_id"] for each in lines(tmp_path)} == {e.external_id for e in events}
    assert not list(place.glob("*.partial"))
    assert RetiredMonth.objects.get().dropped_at == NOW


@pytest.mark.django_db
def test_killed_between_any_two_steps_it_goes_on(tmp_path: Path) -> None:
    old_events(make_customer(), 3)
    go(tmp_path)
    # As it was before the drop was written down: the table may be gone or not.
    RetiredMonth.objects.update(dropped_at=None)
    assert go(tmp_path) == ["2026-05: dropped"]
    # As it was after the export.
    RetiredMonth.objects.all().delete()
    old_events(make_customer(), 3)
    RetiredMonth.objects.create(
        month=OLD, events=3, exported_to=str(tmp_path / "x"), exported_at=NOW
    )
    assert [each.split()[1].strip(";") for each in go(tmp_path)] == ["detached", "dropped"]


@pytest.mark.django_db
def test_an_export_with_other_numbers_drops_nothing(tmp_path: Path) -> None:
    events = old_events(make_customer(), 4)
    with transaction.atomic():
        go(tmp_path)
        transaction.set_rollback(True)
    events[0].delete()  # of what the files have already
    with pytest.raises(ExportIncomplete, match=r"4 events are in .*, 3 in the database"):
        go(tmp_path)
    assert OLD in months_present()
    assert UsageEvent.objects.count() == 3


@pytest.fixture
def month_of_its_own() -> Iterator[None]:
    """A partition that is committed, and gone afterwards."""
    make_month(OLD)
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS metering_usageevent_202605")


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("month_of_its_own")
def test_who_comes_second_leaves_it_to_the_first(tmp_path: Path) -> None:
    old_events(make_customer(), 2)
    RetiredMonth.objects.create(month=OLD, exported_to=str(tmp_path / "there"))
    with transaction.atomic():
        RetiredMonth.objects.select_for_update().get()
        assert at_once([lambda: go(tmp_path)]) == [[]]
    RetiredMonth.objects.update(exported_at=NOW, detached_at=NOW)
    with transaction.atomic():
        RetiredMonth.objects.select_for_update().get()
        assert at_once([lambda: go(tmp_path, kept_months=9)]) == [[]]
    RetiredMonth.objects.update(exported_at=None, detached_at=None)
    assert len(go(tmp_path)) == 3


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("month_of_its_own")
def test_calls_are_not_kept_waiting_for_it(tmp_path: Path) -> None:
    old_events(make_customer(), 2)
    with transaction.atomic():
        UsageEvent.objects.count()  # reads all months, and may go on doing so
        (done,) = at_once([lambda: go(tmp_path)])
    assert [each.split()[-1] for each in done] == [str(tmp_path / "usageevents-2026-05")]
    assert OLD in months_present()
    assert [each.split()[1].strip(";") for each in go(tmp_path)] == ["detached", "dropped"]
