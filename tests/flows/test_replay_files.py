"""`manage.py replay` of files in any format and of any size, through the public API."""

from __future__ import annotations

import io
import json
import os
import sys
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from metering.management import tables
from metering.models import Hold, UsageEvent
from tests.factories.metering import make_customer
from tests.flows.conftest import Live
from tests.metering.management.test_recordings import FILES

BEGIN = datetime.now(UTC).replace(microsecond=0) - timedelta(days=20)


@pytest.fixture
def gate(live: Live) -> Live:
    """With a customer to report for; whether it has a right to the meter is not asked."""
    make_customer(external_id="replay-1")
    return live


def file_of(folder: Path, kind: tables.Format, *, calls: int) -> Path:
    rows = ((BEGIN + timedelta(seconds=number), number, 1) for number in range(calls))
    return FILES[kind](folder / f"trace.{kind}", rows)


def replay(live: Live, file: Path, *options: str) -> dict[str, Any]:
    said = io.StringIO()
    where = ("--gateway", live.base_url, "--key", live.gateway_key)
    call_command("replay", str(file), "--preset", "llm-trace", *where, *options, stdout=said)
    found: dict[str, Any] = json.loads(said.getvalue())
    return found


@pytest.mark.parametrize("kind", tables.FORMATS)
def test_every_format_is_played_once(gate: Live, tmp_path: Path, kind: tables.Format) -> None:
    file = file_of(tmp_path, kind, calls=30)
    played = replay(gate, file, "--backfill", "--json")
    assert (played["calls"], played["admitted"], played["duplicates"]) == (30, 30, 0)
    assert played["tokens"] == sum(range(31))
    again = replay(gate, file.rename(tmp_path / "moved"), "--backfill", "--json", "--format", kind)
    assert (again["admitted"], again["duplicates"]) == (30, 30)
    times = UsageEvent.objects.order_by("occurred_at").values_list("occurred_at", flat=True)
    assert list(times) == [BEGIN + timedelta(seconds=number) for number in range(30)]


def test_memory_does_not_grow_with_the_file(gate: Live, tmp_path: Path) -> None:
    peaks = []
    for calls in (3_000, 15_000):
        file = file_of(tmp_path, "csv", calls=calls)
        tracemalloc.start()
        try:
            assert replay(gate, file, "--backfill", "--json")["calls"] == calls
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_000_000, peaks


class Terminal(io.StringIO):
    """Somebody watches."""

    def isatty(self) -> bool:
        return True


def test_how_far_it_is_goes_to_standard_error(
    gate: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    replay(gate, file_of(tmp_path, "jsonl", calls=30), "--backfill", "--json")
    shown = terminal.getvalue()
    assert "1 calls read" in shown
    assert shown.endswith("30 of 30 calls\n")


def test_a_gateway_that_refuses_ends_all_lanes(gate: Live, tmp_path: Path) -> None:
    """Also while more calls wait than the lanes keep."""
    file = file_of(tmp_path, "csv", calls=5_000)
    with pytest.raises(CommandError, match="did not take /check: 422 "):
        replay(gate, file, "--meter", "nothing", "--customers", "4", "--lanes", "4")
    assert not Hold.objects.exists()


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        ("trace.txt", "", (), "trace.txt: say --format, one of csv, jsonl, parquet."),
        ("trace.csv", "", ("--limit", "0"), "--limit is a whole number, 1 or more."),
        ("trace.jsonl", '{"TIMESTAMP": 5}', (), "line 1: there is no 'ContextTokens'"),
    ],
)
def test_what_cannot_be_played(
    gate: Live, tmp_path: Path, name: str, content: str, options: tuple[str, ...], said: str
) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(CommandError, match=said):
        replay(gate, file, *options)


def test_a_pipe_cannot_be_read_twice(gate: Live, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "trace.csv")
    with pytest.raises(CommandError, match="is no file: it is read more than once"):
        replay(gate, tmp_path / "trace.csv")
