"""Further currencies are as complete as the first: whole, at once, and the message says which."""

from __future__ import annotations

from typing import Any

import pytest

from billing.domain.further_prices import FurtherPricesInvalid, SoldFor, check_further

EACH = {"model": "per_unit", "unit_price": "0.01"}
SHARE = {"model": "percentage", "percent": "1", "unit_value": "0.01", "fixed": "0.3"}
SOLD = SoldFor("usd", fee=2_000, seat_price=EACH, meters={"calls": EACH, "sales": SHARE})
EURO = {"fee": 1_800, "seat_price": EACH, "meters": {"calls": EACH, "sales": SHARE}}


def test_complete_prices_are_taken() -> None:
    check_further(
        SOLD, {"eur": EURO, "kwd": EURO | {"fee": 0, "minimum": 0, "billing_threshold": None}}
    )
    check_further(SOLD, {})
    check_further(SoldFor("usd"), {"eur": {}})


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(FurtherPricesInvalid) as refused:
        check_further(SOLD, {"eur": {"meters": {"calls": EACH}}, "jpy": EURO | {"fee": None}})
    assert refused.value.param == "prices.eur.fee"
    for path in ("eur.fee", "eur.seat_price", "eur.meters.sales", "jpy.fee"):
        assert f"prices.{path}" in refused.value.detail
    assert "calls" not in refused.value.detail


def less(price: dict[str, Any], member: str) -> dict[str, Any]:
    return {name: value for name, value in price.items() if name != member}


@pytest.mark.parametrize(
    ("prices", "param"),
    [
        ({"xxx": EURO}, "prices.xxx"),
        ({"usd": EURO}, "prices.usd"),
        ({"eur": 5}, "prices.eur"),
        ({"eur": EURO | {"fees": 1}}, "prices.eur.fees"),
        ({"eur": EURO | {"meters": 5}}, "prices.eur.meters"),
        ({"eur": EURO | {"minimum": 5}}, "prices.eur.minimum"),
        ({"eur": EURO | {"billing_threshold": 500}}, "prices.eur.billing_threshold"),
        ({"eur": EURO | {"meters": EURO["meters"] | {"x": EACH}}}, "prices.eur.meters.x"),  # type: ignore[operator]
        ({"eur": EURO | {"seat_price": SHARE}}, "prices.eur.seat_price.model"),
        (
            {"eur": EURO | {"meters": {"calls": EACH, "sales": less(SHARE, "fixed")}}},
            "prices.eur.meters.sales.fixed",
        ),
        (
            {"eur": EURO | {"meters": {"calls": EACH, "sales": SHARE | {"maximum": "9"}}}},
            "prices.eur.meters.sales.maximum",
        ),
    ],
)
def test_what_is_not_alike_is_refused(prices: dict[str, Any], param: str) -> None:
    with pytest.raises(FurtherPricesInvalid) as refused:
        check_further(SOLD, prices)
    assert refused.value.param == param
    assert str(refused.value).startswith(param)
