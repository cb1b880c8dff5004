"""The measuring of a long history works, at a size that fits: stored, checked, measured, kept."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from tempfile import mkdtemp

import psycopg
import pytest

from tests.benchmarks import history, storing
from tests.benchmarks.measuring import Effort

FEW, MANY, CUSTOMERS = 2_000, 6_000, 300


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_a_long_history_is_stored_once_and_measured_beside_a_short_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "FEW", FEW)
    home = Path(mkdtemp(prefix="farebox-history-"))  # pytest's own folders are closed to PostgreSQL
    chosen = Namespace(history_customers=CUSTOMERS, history_events=MANY, history_home=home)
    home.chmod(0o711)
    try:
        text = history.measure(chosen, Effort(0.2, 1, 8, warm_up_s=0.1))
        assert f"with {FEW:,} events" in text
        assert f"with {MANY:,} events" in text
        assert "would have been reported" in text
        assert "(**" not in text  # what went wrong
        told = [_told(home, events) for events in (FEW, MANY)]
        assert [_count(home, events) >= events for events in (FEW, MANY)] == [True, True]
        storing.stored(home, CUSTOMERS, MANY)
        assert [_told(home, events) for events in (FEW, MANY)] == told  # not filled again
    finally:
        for events in (FEW, MANY):
            storing.remove(storing.folder(home, events))
        home.rmdir()


def test_a_history_that_would_fill_the_disk_is_not_begun(tmp_path: Path) -> None:
    with pytest.raises(storing.DiskTooSmall, match="store fewer"):
        storing.require_disk(tmp_path, 1_000_000, [FEW, 10**15])
    assert list(tmp_path.iterdir()) == []


def _told(home: Path, events: int) -> int:
    return (storing.folder(home, events) / "stored.json").stat().st_mtime_ns


def _count(home: Path, events: int) -> int:
    with storing.cluster(storing.folder(home, events)) as dsn, psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM metering_usageevent").fetchone()
    assert row is not None
    return int(row[0])
