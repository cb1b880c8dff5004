"""`manage.py import`: files through the public API, each row once, whatever happens on the way."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from django.core.management import CommandError, call_command

from accounts.models import Customer
from metering.models import UsageEvent
from tests.conftest import ROOT
from tests.factories.metering import make_customer
from tests.flows.conftest import Live

COLUMNS = ("id", "type", "subject", "time", "quantity", "region")


@pytest.fixture
def acme(live: Live) -> Customer:
    return make_customer(external_id="acme-imports")


def row(number: int, **cells: object) -> dict[str, Any]:
    given: dict[str, Any] = {
        "id": f"row-{number}",
        "type": "api.call",
        "subject": "acme-imports",
        "time": datetime.now(UTC).isoformat(),
        "quantity": 1,
        "region": "eu",
    }
    return {**given, **cells}


def csv_of(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def options(live: Live, file: Path, *more: str) -> list[str]:
    where = ["--base-url", live.base_url, "--key", live.gateway_key, "--json"]
    return ["import", str(file), *where, *more]


def imported(live: Live, file: Path, *more: str) -> dict[str, Any]:
    said = io.StringIO()
    try:
        call_command(*options(live, file, *more), stdout=said)
    except CommandError as error:
        if error.returncode != 3:
            raise
    found: dict[str, Any] = json.loads(said.getvalue())
    return found


def tally(report: dict[str, Any]) -> tuple[int, int, dict[str, int]]:
    return report["accepted"], report["duplicates"], report["refused"]


def test_a_csv_is_counted_once_however_often_it_is_imported(
    live: Live, acme: Customer, tmp_path: Path
) -> None:
    rows = [row(n) for n in range(25)]
    file = csv_of(tmp_path / "usage.csv", [*rows, rows[3]])

    assert tally(imported(live, file, "--batch", "10")) == (25, 1, {})
    again = imported(live, file)
    assert (tally(again), again["resumed_at"]) == ((25, 1, {}), 26)
    (tmp_path / "usage.csv.import.json").unlink()
    assert tally(imported(live, file)) == (0, 26, {})
    assert UsageEvent.objects.filter(customer_id=acme.id).count() == 25
    event = UsageEvent.objects.get(external_id="row-3")
    assert (event.source, event.properties) == ("import", {"region": "eu", "quantity": 1})
    assert not (tmp_path / "usage.csv.refused.jsonl").exists()


def test_the_same_rows_in_all_formats_are_the_same_events(
    live: Live, acme: Customer, tmp_path: Path
) -> None:
    rows = [row(n) for n in range(8)]
    plain = csv_of(tmp_path / "a.csv", rows)
    lines = tmp_path / "a.jsonl"
    lines.write_text("\n".join(json.dumps(each) for each in rows) + "\n\n")
    parquet = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), parquet)

    assert tally(imported(live, lines)) == (8, 0, {})
    assert tally(imported(live, plain)) == (0, 8, {})
    assert tally(imported(live, parquet)) == (0, 8, {})


def test_refused_rows_are_written_down_and_imported_when_mended(
    live: Live, acme: Customer, tmp_path: Path
) -> None:
    bad = [
        row(1, type="new.type"),
        row(2, subject=""),
        row(3, time="yesterday"),
        row(4, time="2001-01-01T00:00:00Z"),
    ]
    file = csv_of(tmp_path / "mixed.csv", [row(0), *bad, row(5)])
    report = imported(live, file, "--batch", "2")

    assert tally(report) == (
        2,
        0,
        {
            "meter_unknown": 1,
            "parameter_invalid": 1,
            "parameter_missing": 1,
            "time_out_of_range": 1,
        },
    )
    refused = tmp_path / "mixed.csv.refused.jsonl"
    written = [json.loads(line) for line in refused.read_text().splitlines()]
    assert [each["fareboxrow"] for each in written] == [2, 3, 4, 5]
    mended = tmp_path / "mended.jsonl"
    mended.write_text(json.dumps(written[0] | {"type": "api.call"}))
    assert tally(imported(live, mended)) == (1, 0, {})
    found = UsageEvent.objects.get(external_id="row-1")
    assert found.properties == {"region": "eu", "quantity": 1}


def test_killed_in_the_middle_it_goes_on_and_counts_nothing_twice(
    live: Live, acme: Customer, tmp_path: Path
) -> None:
    rows = [row(n) for n in range(3_000)]
    rows[100]["type"] = "new.type"
    file = csv_of(tmp_path / "long.csv", rows)
    state = tmp_path / "long.csv.import.json"
    given = options(live, file, "--batch", "5", "--lanes", "2")
    process = subprocess.Popen(
        [sys.executable, "manage.py", *given], cwd=ROOT, env=os.environ, stdout=subprocess.PIPE
    )
    try:
        while process.poll() is None and not (
            state.exists() and json.loads(state.read_text())["row"] > 200
        ):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    came_to = json.loads(state.read_text())["row"]
    assert came_to < 3_000

    report = imported(live, file, "--lanes", "2")

    assert report["resumed_at"] == came_to
    assert report["accepted"] + report["duplicates"] == 2_999
    assert report["refused"] == {"meter_unknown": 1}
    assert UsageEvent.objects.filter(customer_id=acme.id).count() == 2_999
    refused = (tmp_path / "long.csv.refused.jsonl").read_text().splitlines()
    assert len(refused) == 1


def test_rows_without_ids_are_numbered_only_where_somebody_says_so(
    live: Live, acme: Customer, tmp_path: Path
) -> None:
    file = tmp_path / "calls.csv"
    recent = datetime.now(UTC).replace(tzinfo=None).isoformat(sep=" ")
    file.write_text(f"when,n\n{recent},2\n{recent},2\n")
    columns = ["--time", "when", "--quantity", "n", "--of-type", "api.call", "--utc"]
    columns += ["--customer", "acme-imports", "--source", "crm"]

    assert tally(imported(live, file, *columns)) == (0, 0, {"parameter_missing": 2})
    (tmp_path / "calls.csv.import.json").unlink()
    assert tally(imported(live, file, *columns, "--numbered")) == (2, 0, {})
    (tmp_path / "calls.csv.import.json").unlink()
    assert tally(imported(live, file, *columns, "--numbered")) == (0, 2, {})
    assert {event.source for event in UsageEvent.objects.filter(customer_id=acme.id)} == {"crm"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xml", b"", "say --format"),
        ("a.csv", b"", "The first line names the columns"),
        ("a.csv", b"id,id\n1,2\n", "The first line names the columns"),
        ("a.csv", b'id,type\n1,"x\n', "is no CSV"),
        ("a.parquet", b"PAR1", "is no Parquet file"),
    ],
)
def test_of_a_file_that_cannot_be_read_nothing_is_sent(
    live: Live, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(CommandError, match=said):
        call_command(*options(live, file))
    assert not UsageEvent.objects.exists()


def test_what_is_asked_wrongly(live: Live, acme: Customer, tmp_path: Path) -> None:
    file = csv_of(tmp_path / "a.csv", [row(1)])
    wrong = (
        (["--batch", "0"], "--batch is a whole number"),
        (["--lanes", "65"], "--lanes is a whole number"),
        (["--property", "x"], "write NAME=COLUMN"),
        (["--key", "fb_gw_nobody"], "did not take /events: 401"),
    )
    for more, said in wrong:
        with pytest.raises(CommandError, match=said):
            call_command(*options(live, file, *more))
    with pytest.raises(CommandError, match="No such file"):
        call_command(*options(live, tmp_path / "nothing.csv"))
    with pytest.raises(CommandError, match="--key is the gateway's key"):
        call_command("import", str(file))
    assert not UsageEvent.objects.exists()
    imported(live, file)
    with pytest.raises(CommandError, match="other options"):
        call_command(*options(live, file, "--source", "other"))


def test_it_can_be_read_without_sending(tmp_path: Path) -> None:
    said = io.StringIO()
    good = csv_of(tmp_path / "good.csv", [row(1)])
    call_command("import", str(good), "--check", stdout=said)
    assert said.getvalue() == "Every row can be sent.\n"
    bad = tmp_path / "bad.csv"
    bad.write_bytes(b"id,type,subject\n1,a,b\n2,,b\n3,a\n4,a,\xff\n")
    with pytest.raises(CommandError, match="3 rows cannot be sent"):
        call_command("import", str(bad), "--check", stdout=said)
    assert "row 2: " in said.getvalue()
