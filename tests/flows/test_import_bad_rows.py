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
from metering.domain.bodies import BODY_MAX
from metering.management.importing import BATCH_BYTES
from metering.models import UsageEvent
from tests.factories.metering import make_customer
from tests.flows.conftest import Live
from tests.flows.test_import import csv_of, imported, row, tally


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


def test_a_line_that_the_stack_just_takes_is_the_fault_of_its_row(
    live: Live, acme: Customer, tmp_path: Path
) -> None:
    file = tmp_path / "deep.jsonl"
    deep = [f'{{"id": "{n}", "tree": {"[" * n}{"]" * n}}}' for n in range(700, 1_000)]
    file.write_text("\n".join([json.dumps(row(1)), *deep, json.dumps(row(2))]))
    found = imported(live, file)
    assert (found["accepted"], sum(found["refused"].values())) == (2, 300)
    assert [each["fareboxrow"] for each in refused_rows(file)] == list(range(2, 302))


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


def large(number: int, size: int) -> dict[str, Any]:
    """A row whose event takes about so many bytes."""
    return row(number, text="x" * (size - 300))


def test_a_row_larger_than_a_request_is_refused_before_it_is_sent(
    live: Live, acme: Customer, tmp_path: Path
) -> None:
    rows = [row(1, text=""), large(2, BODY_MAX + 1_000), row(3)]
    for file in (
        lines_of(tmp_path / "a.jsonl", rows),
        parquet_of(tmp_path / "a.parquet", rows),
        csv_of(
            tmp_path / "a.csv", [each | {"region": each.pop("text", "") or "eu"} for each in rows]
        ),
    ):
        said = checked(file)
        assert "row 2: the event takes 8,3" in said
        assert said.endswith("1 rows cannot be sent.")
        for _ in range(2):
            found = imported(live, file)
            assert (found["done"], found["refused"]) == (3, {"body_too_large": 1})
        (refused,) = refused_rows(file)
        assert (refused["fareboxrow"], refused["values"]["id"]) == (2, "row-2")
    assert UsageEvent.objects.filter(customer_id=acme.id).count() == 2


def test_large_rows_share_a_request_only_as_far_as_they_fit(
    live: Live, acme: Customer, tmp_path: Path
) -> None:
    sizes = [BATCH_BYTES - 10_000, BODY_MAX - 10_000, 500, BATCH_BYTES, 500, BODY_MAX - 10_000]
    file = lines_of(tmp_path / "a.jsonl", [large(n, size) for n, size in enumerate(sizes)])
    assert tally(imported(live, file)) == (6, 0, {})
    assert UsageEvent.objects.filter(customer_id=acme.id).count() == 6


def test_a_column_whose_name_is_no_text_is_the_fault_of_the_rows_that_use_it(
    live: Live, acme: Customer, tmp_path: Path
) -> None:
    file = tmp_path / "latin.csv"
    file.write_bytes(
        b"id,type,subject,quantity,pa\xffs\n1,api.call,acme-imports,1,x\n"
        b"2,api.call,acme-imports,1,\n3,api.call,acme-imports,1,\xff\n"
    )
    said = checked(file)
    assert "row 1: the event cannot be written as JSON" in said
    assert "row 3: pa\\udcffs is not UTF-8" in said
    found = imported(live, file)
    assert tally(found) == (1, 0, {"body_malformed": 1, "parameter_invalid": 1})
    assert [each["fareboxrow"] for each in refused_rows(file)] == [1, 3]
