"""`manage.py import`: whatever one row of a file holds, the others are counted."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from django.core.management import CommandError, call_command

from accounts.models import Customer
from metering.models import UsageEvent
from tests.factories.metering import make_customer
from tests.flows.conftest import Live
from tests.flows.test_import import imported, row, tally


@pytest.fixture
def acme(live: Live) -> Customer:
    return make_customer(external_id="acme-imports")


def lines_of(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def parquet_of(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def checked(file: Path) -> str:
    """What `--check` says of a file that has rows which cannot be sent."""
    said = io.StringIO()
    with pytest.raises(CommandError, match="rows cannot be sent") as caught:
        call_command("import", str(file), "--check", stdout=said)
    return f"{said.getvalue()}{caught.value}"


def refused_rows(file: Path) -> list[dict[str, Any]]:
    written = file.with_name(f"{file.name}.refused.jsonl").read_text()
    return [json.loads(line) for line in written.splitlines()]


@pytest.mark.parametrize("write", [lines_of, parquet_of])
def test_half_of_a_surrogate_pair_is_the_fault_of_its_row(
    live: Live, acme: Customer, tmp_path: Path, write: Any
) -> None:
    halves = ['{"a": "\\ud800"}', '{"\\udfff": [1]}']
    rows = [row(n, data=data) for n, data in enumerate(['{"a": 1}', *halves, '{"a": 2}'])]
    file = write(tmp_path / f"halves.{'jsonl' if write is lines_of else 'parquet'}", rows)

    said = checked(file)
    assert "row 2: data holds half of a surrogate pair" in said
    assert said.endswith("2 rows cannot be sent.")
    assert tally(imported(live, file)) == (2, 0, {"parameter_invalid": 2})
    assert tally(imported(live, file)) == (2, 0, {"parameter_invalid": 2})
    assert [(each["fareboxrow"], each["fareboxparam"]) for each in refused_rows(file)] == [
        (2, "data"),
        (3, "data"),
    ]
    found = UsageEvent.objects.filter(customer_id=acme.id).order_by("external_id")
    assert [event.properties for event in found] == [
        {"a": 1, "quantity": 1},
        {"a": 2, "quantity": 1},
    ]


def test_data_that_is_nested_too_deep_is_the_fault_of_its_row(
    live: Live, acme: Customer, tmp_path: Path
) -> None:
    deep = '{"a": ' + "[" * 900 + "]" * 900 + "}"
    file = lines_of(tmp_path / "deep.jsonl", [row(1), row(2, data=deep), row(3)])
    assert tally(imported(live, file)) == (2, 0, {"parameter_invalid": 1})
    assert UsageEvent.objects.filter(customer_id=acme.id).count() == 2


def test_decimals_inside_of_columns_are_counted(live: Live, acme: Customer, tmp_path: Path) -> None:
    rows = [row(n, data={"quantity": Decimal("5.00"), "note": "5"}) for n in range(2)]
    for each in rows:
        del each["quantity"]
    file = parquet_of(tmp_path / "decimals.parquet", rows)
    assert tally(imported(live, file)) == (2, 0, {})
    found = UsageEvent.objects.filter(customer_id=acme.id)
    assert [event.properties for event in found] == [{"quantity": 5, "note": "5"}] * 2


def test_times_of_nanoseconds_are_counted_in_the_microsecond_they_are_of(
    live: Live, acme: Customer, tmp_path: Path
) -> None:
    began = datetime.now(UTC).replace(microsecond=123_456)
    fine = (int(began.timestamp()) * 1_000_000 + 123_456) * 1_000 + 789
    rows = [row(n) for n in range(3)]
    table = pyarrow.Table.from_pylist([{k: v for k, v in r.items() if k != "time"} for r in rows])
    for name, kind in (("time", pyarrow.timestamp("ns", "UTC")), ("took", pyarrow.duration("ns"))):
        table = table.append_column(name, pyarrow.array([fine, None, fine], kind))
    file = tmp_path / "fine.parquet"
    pyarrow.parquet.write_table(table, file)

    assert tally(imported(live, file)) == (3, 0, {})
    found = UsageEvent.objects.filter(customer_id=acme.id, external_id__in=["row-0", "row-2"])
    assert [event.occurred_at for event in found] == [began, began]
