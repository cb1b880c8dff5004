"""The gate's curve of a price costs what rating says, at every quantity."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.curves import curve
from billing.domain.money import CURRENCIES, round_minor
from billing.domain.prices import Package, Price
from billing.domain.rating import rate
from metering.domain.spending import MAJOR, Curve, SpendLimit
from tests.billing.domain.strategies import any_price, quantities

START = datetime(2026, 11, 1, tzinfo=UTC)

currencies = st.sampled_from(["usd", "jpy", "kwd", "isk"])


@given(any_price, quantities)
def test_a_curve_costs_what_rating_says(price: Price, quantity: int) -> None:
    rated = rate(price, quantity=quantity, currency="usd")
    assert Fraction(curve(price).cost(quantity), MAJOR) == Fraction(rated.amount)


@given(any_price, quantities, currencies)
def test_a_spend_limit_rounds_as_an_invoice_line(price: Price, quantity: int, code: str) -> None:
    currency = CURRENCIES[code]
    limit = SpendLimit(1, None, "month", START, exponent=currency.exponent, step=currency.step)
    cost = curve(price).cost(quantity)
    assert limit.rounded(cost) == rate(price, quantity=quantity, currency=code).amount_minor


@given(any_price)
def test_a_curve_survives_being_stored(price: Price) -> None:
    assert Curve.from_json(curve(price).to_json()) == curve(price)


def test_a_package_that_is_begun_is_paid() -> None:
    price = curve(Package(100, Decimal("0.5")))
    assert [price.cost(n) // (MAJOR // 10) for n in (0, 1, 100, 101)] == [0, 5, 5, 10]


@pytest.mark.parametrize("value", ["0.005", "0.0149", "0.015"])
def test_half_a_cent_goes_up(value: str) -> None:
    limit = SpendLimit(1, None, "month", START)
    assert limit.rounded(int(Decimal(value) * MAJOR)) == round_minor(Decimal(value), currency="usd")
