from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.money import CURRENCIES
from billing.domain.periods import Period, proration_fraction
from billing.domain.proration import (
    FeeNegative,
    rest_of_fee,
    split_fee,
)
from tests.billing.domain.strategies import periods_with_instants

GOLDEN = yaml.safe_load((Path(__file__).parent / "golden" / "proration.yaml").read_text())
fees = st.integers(0, 10**9)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["name"])
def test_golden(row: dict[str, Any]) -> None:
    period, at, currency = Period(row["start_at"], row["end_at"]), row["at"], row["currency"]
    assert proration_fraction(period, at=at) == Fraction(*row["rest"])
    assert rest_of_fee(row["old_fee"], period=period, at=at, currency=currency) == row["credit"]
    assert rest_of_fee(row["new_fee"], period=period, at=at, currency=currency) == row["charge"]
    assert split_fee(row["old_fee"], period=period, at=at, currency=currency).used == row["used"]


@given(fees, periods_with_instants(count=1), st.sampled_from(sorted(CURRENCIES)))
def test_used_and_unused_are_the_fee(
    fee: int, inside: tuple[Period, list[datetime]], currency: str
) -> None:
    period, (at,) = inside
    split = split_fee(fee, period=period, at=at, currency=currency)
    assert split.used + split.unused == fee
    assert split.used >= 0
    assert split.unused >= 0


@given(st.lists(fees, min_size=6, max_size=6), periods_with_instants(count=5))
def test_no_chain_of_changes_gives_back_more_than_was_charged(
    plans: list[int], inside: tuple[Period, list[datetime]]
) -> None:
    period, instants = inside
    paid = plans[0]
    for old, new, at in zip(plans, plans[1:], instants, strict=False):
        given_back, charged = (
            rest_of_fee(fee, period=period, at=at, currency="usd") for fee in (old, new)
        )
        paid += charged - given_back
        # What is paid covers at least the rest that is still to be served.
        assert paid >= charged
    assert paid <= max(plans) + len(plans)


def test_a_fee_that_is_no_whole_step_gives_back_no_more_than_was_paid() -> None:
    start = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    period = Period(start, start.replace(month=2))
    assert split_fee(1250, period=period, at=start, currency="isk").unused == 1250


def test_a_negative_fee_is_refused() -> None:
    start = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    with pytest.raises(FeeNegative):
        split_fee(-1, period=Period(start, start.replace(month=2)), at=start, currency="usd")
