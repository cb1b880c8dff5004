from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.money import (
    CURRENCIES,
    CurrencyMismatch,
    CurrencyUnknown,
    Money,
    WeightsInvalid,
    allocate,
    currency_of,
    format_exact,
    format_money,
    round_minor,
    round_minor_fraction,
)

codes = st.sampled_from(sorted(CURRENCIES))
prices = st.decimals(min_value=-(10**9), max_value=10**9, places=12)


def test_every_row_can_charge_its_own_minimum() -> None:
    for code, row in CURRENCIES.items():
        assert row.code == code == code.lower()
        assert row.exponent in (0, 2, 3)
        assert row.minimum_charge > 0
        assert row.admits(row.minimum_charge)


@pytest.mark.parametrize(
    "code", ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv"]
)
def test_zero_decimal_currencies(code: str) -> None:
    assert currency_of(code).exponent == 0


@pytest.mark.parametrize("code", ["bhd", "jod", "kwd", "omr", "tnd"])
def test_three_decimal_currencies_end_in_zero(code: str) -> None:
    assert currency_of(code).exponent == 3
    assert currency_of(code).admits(1230)
    assert not currency_of(code).admits(1234)


@pytest.mark.parametrize("code", ["USD", "xyz", "", "us", ["usd"]])
def test_unknown_currencies_are_refused(code: str) -> None:
    with pytest.raises(CurrencyUnknown):
        currency_of(code)
    with pytest.raises(CurrencyUnknown):
        Money(1, code)
    with pytest.raises(CurrencyUnknown):
        round_minor(Decimal(1), currency=code)


def test_arithmetic_within_one_currency() -> None:
    assert Money(150, "usd") + Money(50, "usd") == Money(200, "usd")
    assert Money(150, "usd") - Money(50, "usd") == Money(100, "usd")
    assert -Money(150, "usd") == Money(-150, "usd")
    assert Money(1, "usd") < Money(2, "usd")
    assert Money(2, "usd") >= Money(2, "usd")


def test_currencies_do_not_mix() -> None:
    dollar, euro = Money(100, "usd"), Money(100, "eur")
    assert dollar != euro
    with pytest.raises(CurrencyMismatch):
        dollar + euro
    with pytest.raises(CurrencyMismatch):
        dollar - euro
    with pytest.raises(CurrencyMismatch):
        assert dollar < euro
    with pytest.raises(CurrencyMismatch):
        assert dollar >= euro


@pytest.mark.parametrize(
    ("value", "currency", "minor"),
    [
        ("19.99", "usd", 1999),
        ("0.005", "usd", 1),
        ("-0.005", "usd", -1),
        ("0.0049999", "usd", 0),
        ("-0.0049999", "usd", 0),
        ("0.015", "usd", 2),
        ("0.025", "usd", 3),
        ("0.5", "jpy", 1),
        ("1.4999", "jpy", 1),
        ("1.2345", "kwd", 1230),
        ("1.235", "kwd", 1240),
        ("12.5", "isk", 1300),
        ("-12.5", "isk", -1300),
    ],
)
def test_half_goes_away_from_zero(value: str, currency: str, minor: int) -> None:
    assert round_minor(Decimal(value), currency=currency) == minor


@given(prices, codes)
def test_rounding_is_near_payable_and_symmetrical(value: Decimal, code: str) -> None:
    currency = currency_of(code)
    minor = round_minor(value, currency=code)
    exact = Fraction(value) * 10**currency.exponent
    assert currency.admits(minor)
    assert abs(minor - exact) <= Fraction(currency.step, 2)
    assert round_minor(-value, currency=code) == -minor


@given(st.integers(), codes)
def test_payable_amounts_round_to_themselves(steps: int, code: str) -> None:
    amount = steps * currency_of(code).step
    assert round_minor_fraction(Fraction(amount), currency=code) == amount


@given(
    st.integers(min_value=-(10**15), max_value=10**15),
    st.lists(st.integers(min_value=0, max_value=10**9), min_size=1).filter(any),
)
def test_allocate_loses_no_cent(amount: int, weights: list[int]) -> None:
    shares = allocate(amount, weights=weights)
    assert sum(shares) == amount
    assert shares == [-share for share in allocate(-amount, weights=weights)]
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - Fraction(amount * weight, sum(weights))) < 1


def test_allocate_gives_the_odd_cents_by_remainder_then_by_order() -> None:
    assert allocate(100, weights=[1, 1, 1]) == [34, 33, 33]
    assert allocate(10, weights=[1, 5, 3]) == [1, 6, 3]
    assert allocate(5, weights=[0, 1, 0]) == [0, 5, 0]
    assert allocate(0, weights=[3, 4]) == [0, 0]


@pytest.mark.parametrize("weights", [[], [0], [0, 0], [2, -1], [1, -1]])
def test_allocate_refuses_weights_that_share_nothing(weights: list[int]) -> None:
    with pytest.raises(WeightsInvalid):
        allocate(100, weights=weights)


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1999, "usd", "$19.99"),
        (-50, "usd", "-$0.50"),
        (123456789, "usd", "$1,234,567.89"),
        (1999, "eur", "€19.99"),
        (1999, "jpy", "1,999 JPY"),
        (-1999, "jpy", "-1,999 JPY"),
        (1500, "kwd", "1.500 KWD"),
        (0, "chf", "0.00 CHF"),
    ],
)
def test_money_for_people(amount: int, currency: str, text: str) -> None:
    assert format_money(Money(amount, currency)) == text


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("0.000002", "usd", "$0.000002"),
        ("0.5", "usd", "$0.50"),
        ("-1999", "jpy", "-1,999 JPY"),
        ("0.0125", "kwd", "0.0125 KWD"),
    ],
)
def test_exact_amounts_for_people(amount: str, currency: str, text: str) -> None:
    assert format_exact(Decimal(amount), currency=currency) == text
