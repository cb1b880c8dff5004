"""A line is computed again from nothing but itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.explanations import LineFacts, Recomputed, recompute
from billing.domain.invoices import LineKind
from billing.domain.periods import Period
from billing.domain.prices import Package, Percentage, Price, parse_price, price_to_json
from billing.domain.rating import rate, tiers_to_json
from tests.billing.domain.strategies import any_price

OCTOBER = Period(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
REST = Period(datetime(2026, 10, 11, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))


def facts(kind: LineKind, detail: dict[str, Any], **members: Any) -> LineFacts:
    given_: dict[str, Any] = {
        "amount": 0,
        "quantity": None,
        "period": OCTOBER,
        "currency": "usd",
        "whole": OCTOBER,
    }
    return LineFacts(kind=kind, detail=detail, **(given_ | members))


@given(any_price, st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_usage_line_comes_to_what_was_invoiced(price: Price, used: int, included: int) -> None:
    billed = max(0, used - included)
    rated = rate(price, quantity=billed, currency="usd")
    detail = {
        "used": used,
        "included": included,
        "price": price_to_json(price),
        "tiers": tiers_to_json(rated.tiers),
    }
    again = recompute(facts(LineKind.USAGE, detail, quantity=billed))
    assert again.amount == rated.amount_minor
    assert len(again.sums) == len(rated.tiers)


def test_a_later_span_begins_where_the_tiers_stood() -> None:
    tiers = [
        {"up_to": 100, "unit_price": "0.05", "flat_price": "1"},
        {"up_to": None, "unit_price": "0.01"},
    ]
    price = parse_price({"model": "graduated", "tiers": tiers})
    was, now = (rate(price, quantity=n, currency="usd") for n in (60, 150))
    detail = {
        "price": price_to_json(price),
        "billed_before": 60,
        "tiers": tiers_to_json(now.tiers),
        "tiers_before": tiers_to_json(was.tiers),
    }
    assert recompute(facts(LineKind.USAGE, detail, quantity=90)) == Recomputed(
        250,
        (
            "100 x 0.05 + 1 = 6",
            "50 x 0.01 = 0.5",
            "less, for the 60 units that were billed before:",
            "60 x 0.05 + 1 = 4",
            "650 - 400 = 250",
        ),
    )


@pytest.mark.parametrize(
    ("price", "sums"),
    [
        ({"model": "package", "package_size": 100, "package_price": "2"}, ("3 packages x 2 = 6",)),
        (
            {"model": "percentage", "percent": "1", "unit_value": "0.01", "minimum": "1"},
            ("250 x 0.0001 = 0.025", "to the minimum: 0.975"),
        ),
    ],
)
def test_packages_and_bounds_are_told(price: dict[str, Any], sums: tuple[str, ...]) -> None:
    read = parse_price(price)
    assert isinstance(read, Package | Percentage)
    tiers = tiers_to_json(rate(read, quantity=250, currency="usd").tiers)
    told = recompute(facts(LineKind.USAGE, {"price": price, "tiers": tiers}, quantity=250))
    assert told.sums == sums


def test_a_fee_is_its_share_of_the_period() -> None:
    assert recompute(facts(LineKind.FEE, {"fee": 2_000})) == Recomputed(2_000, ())
    part = recompute(facts(LineKind.FEE, {"fee": 2_000}, period=REST))
    assert part == Recomputed(
        1_355, ("2,000 for 1,814,400 of 2,678,400 seconds: 1,355 - 0 = 1,355",)
    )


def test_what_is_a_difference_is_told_as_one() -> None:
    minimum = facts(LineKind.MINIMUM, {"minimum": 5_000, "spent": 3_000})
    assert recompute(minimum) == Recomputed(2_000, ("5,000 - 3,000 = 2,000",))
    late = facts(LineKind.ADJUSTMENT, {"amount_before": 100, "amount_after": 70})
    assert recompute(late) == Recomputed(-30, ("70 - 100 = -30",))


@pytest.mark.parametrize("kind", [LineKind.CREDIT, LineKind.ADJUSTMENT, LineKind.FEE])
def test_what_is_no_sum_is_not_made_one(kind: LineKind) -> None:
    assert recompute(facts(kind, {})) == Recomputed(None, ())
