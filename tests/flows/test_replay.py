"""A real trace through the public API: what is invoiced is what the file says."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from config.quickstart.catalogue import TOKENS
from metering.models import Balance, Hold, UsageEvent
from tests.flows.conftest import Live
from tests.flows.settling import settle_everything

pytestmark = pytest.mark.proof

CUSTOMERS = 16
FEE = 2_000
INCLUDED = 100_000


@pytest.fixture(scope="module")
def trace(shared: Path) -> Path:
    file = shared / "data" / "azure_llm_code_2023.csv"
    if not file.is_file():
        pytest.skip(f"the trace is not here: {file.name} beside the project, in ../shared/data")
    return file


def tokens_by_customer(trace: Path) -> list[int]:
    """Plain Python over the file: calls go to the customers in turn."""
    totals = [0] * CUSTOMERS
    with trace.open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            totals[number % CUSTOMERS] += int(row["ContextTokens"]) + int(row["GeneratedTokens"])
    return totals


def invoice_cents(tokens: int) -> int:
    """Fee, and past the included tokens two tiers: the first million of them, and the rest."""
    over = max(0, tokens - INCLUDED)
    first, rest = min(over, 1_000_000), max(0, over - 1_000_000)
    dollars = first * Decimal("0.00002") + rest * Decimal("0.00001")
    return FEE + int((dollars * 100).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def replay(live: Live, file: Path, *options: str) -> dict[str, Any]:
    said = io.StringIO()
    call_command(
        "replay",
        str(file),
        *("--preset", "llm-trace", "--gateway", live.base_url, "--key", live.gateway_key),
        *("--operator-key", live.operator_key, "--customers", str(CUSTOMERS), "--json"),
        *options,
        stdout=said,
    )
    found: dict[str, Any] = json.loads(said.getvalue())
    return found


def facts() -> tuple[Sequence[object], ...]:
    """Everything that a replay could change."""
    return (
        sorted(Balance.objects.values_list("customer_id", "meter_id", "used", "held")),
        sorted(UsageEvent.objects.values_list("customer_id", "id", "usage__isnull")),
        sorted(Hold.objects.values_list("customer_id", "id", "state")),
    )


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_trace_is_invoiced_as_computed_by_hand_and_played_twice_changes_nothing(
    live: Live, trace: Path
) -> None:
    expected = tokens_by_customer(trace)

    played = replay(live, trace, "--plan", "pro")

    assert played["admitted"] == played["calls"] == len(trace.read_text().splitlines()) - 1
    assert (played["denied"], played["duplicates"]) == ({}, 0)
    assert played["tokens"] == sum(expected)
    used = {
        balance.customer.external_id: balance.used
        for balance in Balance.objects.filter(meter__key=TOKENS).select_related("customer")
    }
    assert used == {f"replay-{n}": total for n, total in enumerate(expected, start=1)}
    assert not Hold.objects.filter(state="open").exists()

    before = facts()
    again = replay(live, trace, "--plan", "pro")
    assert again["duplicates"] == again["calls"] == played["calls"]
    assert again["tokens"] == played["tokens"]
    assert facts() == before

    settle_everything(ahead=timedelta(days=32))
    for number, tokens in enumerate(expected, start=1):
        customer = f"replay-{number}"
        (invoice,) = live.farebox.get("/invoices", customer=customer, status="open")["data"]
        assert invoice["total"] == invoice_cents(tokens), customer
        (usage,) = [line for line in invoice["lines"] if line["meter"] == TOKENS]
        assert usage["quantity"] == tokens - INCLUDED


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_with_a_plan_too_small_the_admitted_sum_never_passes_the_limit(
    live: Live, trace: Path
) -> None:
    calls = len(trace.read_text().splitlines()) - 1

    played = replay(live, trace, "--plan", "free", "--estimate-output", "2000")

    assert played["denied"].keys() <= {"quota_exhausted", "in_flight"}
    assert played["admitted"] + sum(played["denied"].values()) == calls
    assert 0 < played["admitted"] < calls
    used = list(Balance.objects.filter(meter__key=TOKENS).values_list("used", flat=True))
    assert len(used) == CUSTOMERS
    assert max(used) <= 10_000
    assert sum(used) == played["tokens"]


@pytest.mark.shared
def test_history_is_backfilled_at_the_times_of_the_file(live: Live, trace: Path) -> None:
    start_at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=40)
    options = ("--backfill", "--limit", "400", "--start-at", start_at.isoformat())

    played = replay(live, trace, *options)

    assert (played["calls"], played["admitted"], played["duplicates"]) == (400, 400, 0)
    times = UsageEvent.objects.order_by("occurred_at").values_list("occurred_at", flat=True)
    assert len(times) == 400
    assert times[0] == start_at
    again = replay(live, trace, *options)
    assert (again["admitted"], again["duplicates"]) == (400, 400)
    assert UsageEvent.objects.count() == 400


def test_nothing_is_sent_of_a_file_with_a_fault(live: Live, tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    rows = ["TIMESTAMP,ContextTokens,GeneratedTokens", "2026-11-01T00:00:00Z,5,1"]
    file.write_text("\n".join([*rows, "2026-11-01T00:00:01Z,-5,1"]))

    with pytest.raises(
        CommandError, match=r"trace\.csv, line 3: ContextTokens: '-5' is not a whole"
    ):
        replay(live, file, "--plan", "free")

    assert not Hold.objects.exists()
    assert live.farebox.get("/customers")["data"] == []


def test_a_gateway_that_is_not_there_is_said_in_a_sentence(live: Live, tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2026-11-01T00:00:00Z,5,1\n")

    with pytest.raises(CommandError, match="did not answer"):
        call_command(
            "replay", str(file), "--preset", "llm-trace", "--gateway", "http://127.0.0.1:9",
            "--key", live.gateway_key, "--operator-key", live.operator_key,
        )  # fmt: skip
