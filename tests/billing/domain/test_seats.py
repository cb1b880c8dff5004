"""Seats: hand-worked examples, and what is no description of seats."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.periods import Period
from billing.domain.prices import PerUnit, Price, PriceInvalid
from billing.domain.proration import rest_of_fee
from billing.domain.seats import SEATS_MAX, SeatTerms, parse_seats, seat_fee, seats_to_json
from tests.billing.domain.strategies import any_price, rising_prices

GOLDEN = yaml.safe_load((Path(__file__).parent / "golden" / "seats.yaml").read_text())
OCTOBER = Period(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
counts = st.integers(1, SEATS_MAX)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["name"])
def test_golden(row: dict[str, Any]) -> None:
    fee = seat_fee(parse_seats(row["terms"]), seats=row["seats"], currency="usd").amount_minor
    assert fee == row["fee"]
    assert rest_of_fee(fee, period=OCTOBER, at=row["at"], currency="usd") == row["rest"]


@given(rising_prices, st.integers(0, 50), counts, counts)
def test_more_seats_never_cost_less(price: Price, included: int, some: int, others: int) -> None:
    terms = SeatTerms(included, price)
    fewer, more = sorted([some, others])
    less = seat_fee(terms, seats=fewer, currency="usd")
    assert less.amount <= seat_fee(terms, seats=more, currency="usd").amount


@given(any_price, st.integers(0, 50))
def test_included_seats_are_free(price: Price, included: int) -> None:
    assert seat_fee(SeatTerms(included, price), seats=included, currency="usd").amount == 0


@given(any_price, st.integers(0, SEATS_MAX))
def test_json_there_and_back(price: Price, included: int) -> None:
    terms = SeatTerms(included, price)
    assert parse_seats(seats_to_json(terms)) == terms


def test_no_seat_is_included_unless_said() -> None:
    price = {"model": "per_unit", "unit_price": "12"}
    assert parse_seats({"price": price}) == SeatTerms(0, PerUnit(Decimal(12)))


@pytest.mark.parametrize(
    ("data", "param"),
    [
        ([], ""),
        ({"seats": 1}, "seats"),
        ({"included": -1}, "included"),
        ({"included": True}, "included"),
        ({"included": "1"}, "included"),
        ({"included": SEATS_MAX + 1}, "included"),
        ({"included": 1}, "price"),
        ({"price": {"model": "per_unit"}}, "price.unit_price"),
    ],
)
def test_what_is_no_description_of_seats_is_refused(data: Any, param: str) -> None:
    with pytest.raises(PriceInvalid) as refused:
        parse_seats(data)
    assert refused.value.param == param
