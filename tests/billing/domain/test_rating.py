from decimal import Decimal, localcontext
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from billing.domain.money import CurrencyUnknown
from billing.domain.prices import (
    Flat,
    Graduated,
    Package,
    Percentage,
    PerUnit,
    Price,
    Volume,
    decimal_text,
    parse_price,
)
from billing.domain.rating import (
    QuantityNegative,
    Rated,
    overage_quantity,
    rate,
    tiers_to_json,
)
from metering.domain.rollover import rolled_over
from tests.billing.domain.strategies import (
    any_price,
    flat,
    graduated,
    package,
    per_unit,
    percentage,
    quantities,
    rising_prices,
    volume,
)


def _golden(name: str) -> Any:
    return yaml.safe_load((Path(__file__).parent / "golden" / f"{name}.yaml").read_text())


GOLDEN = _golden("rating")


def _more(price: Price, *, before: int, after: int, currency: str) -> int:
    """What is billed past what was billed before, in minor units (negative: given back)."""
    was, now = (rate(price, quantity=each, currency=currency) for each in (before, after))
    return now.amount_minor - was.amount_minor


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["name"])
def test_golden(row: dict[str, Any]) -> None:
    billed = overage_quantity(row["used"], included=row["included"])
    assert billed == row["overage"]
    rated = rate(parse_price(row["price"]), quantity=billed, currency=row["currency"])
    assert rated.amount == Decimal(row["amount"])
    assert rated.amount_minor == row["minor"]
    if "tiers" in row:  # [units, amount] of each
        told = [[tier.quantity, decimal_text(tier.amount)] for tier in rated.tiers]
        assert told == row["tiers"]


@pytest.mark.parametrize("row", _golden("rollover"), ids=lambda row: row["name"])
def test_golden_of_what_goes_on_into_the_next_window(row: dict[str, Any]) -> None:
    included, came_over = row["included"], 0
    for window in row["windows"]:
        assert came_over == window["came_over"]
        billed = overage_quantity(window["used"], included=included + came_over)
        assert billed == window["overage"]
        rated = rate(parse_price(row["price"]), quantity=billed, currency=row["currency"])
        assert rated.amount_minor == window["minor"]
        # What came over is used after what the window includes.
        taken = min(window["used"], included)
        came_over = rolled_over(included=included, most=row["most"], used=taken)


@pytest.mark.parametrize("row", _golden("interim"), ids=lambda row: row["name"])
def test_golden_of_interim_invoices(row: dict[str, Any]) -> None:
    price, before = parse_price(row["price"]), 0
    for cut in row["cuts"]:
        after = before + cut["units"]
        billed = _more(price, before=before, after=after, currency=row["currency"])
        assert billed == cut["minor"]
        before = after
    assert rate(price, quantity=before, currency=row["currency"]).amount_minor == row["whole"]
    assert sum(cut["minor"] for cut in row["cuts"]) == row["whole"]


@given(rising_prices, quantities, st.integers(0, 10_000))
def test_more_is_never_cheaper_but_by_volume(price: Price, quantity: int, more: int) -> None:
    less = rate(price, quantity=quantity, currency="usd")
    assert rate(price, quantity=quantity + more, currency="usd").amount >= less.amount


@given(any_price, quantities)
def test_tiers_meet_and_add_up(price: Price, quantity: int) -> None:
    rated = rate(price, quantity=quantity, currency="usd")
    reached = 0
    for tier in rated.tiers:
        assert tier.from_quantity == reached
        assert tier.quantity == tier.to_quantity - tier.from_quantity
        assert (tier.quantity == 0) == (tier.bound is not None)
        with localcontext(prec=100):
            count = tier.quantity if tier.packages is None else tier.packages
            assert tier.amount == count * tier.unit_price + tier.flat_price
        reached = tier.to_quantity
    assert reached == quantity
    with localcontext(prec=100):
        assert sum((tier.amount for tier in rated.tiers), Decimal(0)) == rated.amount


@given(graduated, st.integers(0, 20_000), st.integers(0, 20_000))
def test_a_graduated_quantity_can_be_split_anywhere(
    price: Graduated, first: int, second: int
) -> None:
    """What the second part adds is what its units cost in their own tiers."""
    assume(first and second)
    whole = rate(price, quantity=first + second, currency="usd")
    part = rate(price, quantity=first, currency="usd")
    added = Decimal(0)
    for tier in whole.tiers:
        units = max(0, tier.to_quantity - max(tier.from_quantity, first))
        begun_here = tier.from_quantity >= first
        added += units * tier.unit_price + (tier.flat_price if begun_here else 0)
    assert part.amount + added == whole.amount


@given(graduated)
def test_graduated_tiers_meet_at_their_edges(price: Graduated) -> None:
    """Past an edge the next tier adds its flat part and its unit price, and nothing else."""
    for tier, following in pairwise(price.tiers):
        assert tier.up_to is not None
        edge = rate(price, quantity=tier.up_to, currency="usd").amount
        past = rate(price, quantity=tier.up_to + 1, currency="usd").amount
        assert past - edge == following.flat_price + following.unit_price


@given(volume)
def test_volume_changes_the_price_of_all_units_at_an_edge_and_not_before(price: Volume) -> None:
    for tier, following in pairwise(price.tiers):
        assert tier.up_to is not None
        edge = rate(price, quantity=tier.up_to, currency="usd").amount
        past = rate(price, quantity=tier.up_to + 1, currency="usd").amount
        assert edge == tier.up_to * tier.unit_price + tier.flat_price
        assert past == (tier.up_to + 1) * following.unit_price + following.flat_price


@given(volume, st.integers(1, 20_000), st.integers(0, 10_000))
def test_more_is_never_cheaper_by_volume_inside_a_tier(
    price: Volume, quantity: int, more: int
) -> None:
    tier = next(t for t in price.tiers if t.up_to is None or quantity <= t.up_to)
    assume(tier.up_to is None or quantity + more <= tier.up_to)
    less = rate(price, quantity=quantity, currency="usd")
    assert rate(price, quantity=quantity + more, currency="usd").amount >= less.amount


@given(rising_prices, st.lists(st.integers(0, 3_000), min_size=1, max_size=6))
def test_a_period_cut_anywhere_costs_what_it_costs_whole(price: Price, parts: list[int]) -> None:
    """Spans are rated from where the tiers stood: the lines of all of them are the whole."""
    reached = [0, *accumulate(parts)]
    lines = [
        _more(price, before=before, after=after, currency="usd")
        for before, after in pairwise(reached)
    ]
    assert min(lines) >= 0
    assert sum(lines) == rate(price, quantity=sum(parts), currency="usd").amount_minor


@given(volume, st.integers(1, 20_000))
def test_volume_rates_all_units_in_one_tier(price: Volume, quantity: int) -> None:
    (tier,) = rate(price, quantity=quantity, currency="usd").tiers
    fitting = [t for t in price.tiers if t.up_to is None or quantity <= t.up_to]
    assert (tier.unit_price, tier.flat_price) == (fitting[0].unit_price, fitting[0].flat_price)


@given(per_unit, quantities)
def test_per_unit_is_a_product(price: PerUnit, quantity: int) -> None:
    with localcontext(prec=100):
        expected = price.unit_price * quantity
    assert rate(price, quantity=quantity, currency="usd").amount == expected


@given(package, quantities)
def test_package_covers_the_quantity_and_not_a_package_more(price: Package, quantity: int) -> None:
    tiers = rate(price, quantity=quantity, currency="usd").tiers
    packages = sum(tier.packages or 0 for tier in tiers)
    assert packages * price.package_size >= quantity
    assert (packages - 1) * price.package_size < max(quantity, 1)


@given(percentage, st.integers(1, 2**63 - 1) | st.integers(1, 50_000))
def test_a_percentage_keeps_to_its_bounds_and_says_so(price: Percentage, quantity: int) -> None:
    rated = rate(price, quantity=quantity, currency="usd")
    with localcontext(prec=100):
        plain = price.percent / 100 * price.unit_value * quantity + price.fixed
    least = plain if price.minimum is None else max(plain, price.minimum)
    assert rated.amount == (least if price.maximum is None else min(least, price.maximum))
    bounds = [tier.bound for tier in rated.tiers if tier.bound]
    assert bounds == (["minimum"] if rated.amount > plain else ["maximum"] * (rated.amount < plain))


@given(flat, st.integers(1))
def test_flat_is_flat(price: Flat, quantity: int) -> None:
    assert rate(price, quantity=quantity, currency="usd").amount == price.price


@given(any_price)
def test_nothing_costs_nothing(price: Price) -> None:
    rated = rate(price, quantity=0, currency="usd")
    assert rated == Rated(Decimal(0), 0, ())


@given(any_price, st.lists(quantities, min_size=1, max_size=5))
def test_adjustments_add_up_to_the_rating_of_the_final_quantity(
    price: Price, counts: list[int]
) -> None:
    steps = zip([0, *counts], counts, strict=False)
    adjusted = sum(
        _more(price, before=before, after=after, currency="usd") for before, after in steps
    )
    assert adjusted == rate(price, quantity=counts[-1], currency="usd").amount_minor


def test_the_surrounding_decimal_context_does_not_matter() -> None:
    price = parse_price({"model": "per_unit", "unit_price": "0.123456789012"})
    with localcontext(prec=3):
        rated = rate(price, quantity=10**18, currency="usd")
    assert rated.amount == 123456789012000000
    assert rated.amount_minor == 12345678901200000000


@given(st.integers(0, 10**18), st.integers(0, 10**18))
def test_overage_is_what_is_past_the_included(used: int, included: int) -> None:
    overage = overage_quantity(used, included=included)
    assert overage == (used - included if used > included else 0)


def test_refuses_negative_quantities_and_unknown_currencies() -> None:
    price = PerUnit(Decimal(1))
    with pytest.raises(QuantityNegative):
        rate(price, quantity=-1, currency="usd")
    with pytest.raises(CurrencyUnknown):
        rate(price, quantity=1, currency="zzz")


def test_the_explanation_as_json() -> None:
    tiers = [
        {"up_to": 10, "unit_price": "0.10", "flat_price": "1"},
        {"up_to": None, "unit_price": "0.05"},
    ]
    price = parse_price({"model": "graduated", "tiers": tiers})
    assert tiers_to_json(rate(price, quantity=15, currency="usd").tiers) == [
        {
            "from_quantity": 0,
            "to_quantity": 10,
            "quantity": 10,
            "unit_price": "0.1",
            "flat_price": "1",
            "amount": "2",
        },
        {
            "from_quantity": 10,
            "to_quantity": 15,
            "quantity": 5,
            "unit_price": "0.05",
            "flat_price": "0",
            "amount": "0.25",
        },
    ]
    least = Percentage(Decimal(1), Decimal("0.01"), minimum=Decimal(1))
    assert tiers_to_json(rate(least, quantity=100, currency="usd").tiers)[1] == {
        "from_quantity": 100,
        "to_quantity": 100,
        "quantity": 0,
        "unit_price": "0",
        "flat_price": "0.99",
        "amount": "0.99",
        "bound": "minimum",
    }
    packages = rate(Package(10, Decimal("0.5")), quantity=15, currency="usd").tiers
    assert tiers_to_json(packages)[0]["packages"] == 2
