import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given

from billing.domain.prices import (
    MAX_TIERS,
    Flat,
    Graduated,
    Package,
    Percentage,
    PerUnit,
    Price,
    PriceInvalid,
    Tier,
    Volume,
    decimal_text,
    parse_price,
    price_to_json,
)
from tests.billing.domain.strategies import any_price


def test_reads_each_model() -> None:
    tiers = [
        {"up_to": 1_000_000, "unit_price": "0.000002", "flat_price": "0"},
        {"up_to": None, "unit_price": "0.000001"},
    ]
    read = (
        Tier(1_000_000, Decimal("0.000002"), Decimal(0)),
        Tier(None, Decimal("0.000001"), Decimal(0)),
    )
    package = {"model": "package", "package_size": 1000, "package_price": "0.50"}
    assert parse_price({"model": "per_unit", "unit_price": "0.01"}) == PerUnit(Decimal("0.01"))
    assert parse_price({"model": "per_unit", "unit_price": 2}) == PerUnit(Decimal(2))
    assert parse_price({"model": "graduated", "tiers": tiers}) == Graduated(read)
    assert parse_price({"model": "volume", "tiers": tiers}) == Volume(read)
    assert parse_price(package) == Package(1000, Decimal("0.5"))
    assert parse_price({"model": "flat", "price": "5"}) == Flat(Decimal(5))
    share = {"model": "percentage", "percent": "2.9", "unit_value": "0.01"}
    assert parse_price(share) == Percentage(Decimal("2.9"), Decimal("0.01"))
    bounded = share | {"fixed": "0.30", "minimum": None, "maximum": "100"}
    assert parse_price(bounded) == Percentage(
        Decimal("2.9"), Decimal("0.01"), Decimal("0.3"), maximum=Decimal(100)
    )


@given(any_price)
def test_json_there_and_back(price: Price) -> None:
    assert parse_price(json.loads(json.dumps(price_to_json(price)))) == price


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0.000002", "0.000002"),
        ("20.00", "20"),
        ("100", "100"),
        ("0.00", "0"),
        ("1E+2", "100"),
        ("1E-7", "0.0000001"),
        ("1.10", "1.1"),
    ],
)
def test_decimal_text(value: str, text: str) -> None:
    assert decimal_text(Decimal(value)) == text


def percentage(**members: object) -> dict[str, object]:
    return {"model": "percentage", "percent": "1", "unit_value": "0.01"} | members


def graduated(*tiers: object) -> dict[str, object]:
    return {"model": "graduated", "tiers": list(tiers)}


LAST = {"up_to": None, "unit_price": "1"}


@pytest.mark.parametrize(
    ("data", "param"),
    [
        ("per_unit", ""),
        (None, ""),
        ([], ""),
        ({}, "model"),
        ({"model": "stairstep"}, "model"),
        ({"model": ["flat"]}, "model"),
        ({"model": "per_unit"}, "unit_price"),
        ({"model": "per_unit", "unit_price": "1", "unit": "token"}, "unit"),
        ({"model": "per_unit", "unit_price": 0.01}, "unit_price"),
        ({"model": "per_unit", "unit_price": True}, "unit_price"),
        ({"model": "per_unit", "unit_price": None}, "unit_price"),
        ({"model": "per_unit", "unit_price": -1}, "unit_price"),
        ({"model": "per_unit", "unit_price": "-0.01"}, "unit_price"),
        ({"model": "per_unit", "unit_price": ""}, "unit_price"),
        ({"model": "per_unit", "unit_price": "1e-3"}, "unit_price"),
        ({"model": "per_unit", "unit_price": "NaN"}, "unit_price"),
        ({"model": "per_unit", "unit_price": " 1"}, "unit_price"),
        ({"model": "per_unit", "unit_price": "1\n"}, "unit_price"),
        ({"model": "per_unit", "unit_price": "\u0661"}, "unit_price"),
        ({"model": "per_unit", "unit_price": "0.0000000000001"}, "unit_price"),
        ({"model": "per_unit", "unit_price": "1234567890123"}, "unit_price"),
        ({"model": "per_unit", "unit_price": 10**12}, "unit_price"),
        ({"model": "flat"}, "price"),
        ({"model": "flat", "price": "1", "tiers": []}, "tiers"),
        ({"model": "package", "package_price": "1"}, "package_size"),
        ({"model": "package", "package_size": 0, "package_price": "1"}, "package_size"),
        ({"model": "package", "package_size": "10", "package_price": "1"}, "package_size"),
        ({"model": "package", "package_size": 1.0, "package_price": "1"}, "package_size"),
        ({"model": "package", "package_size": True, "package_price": "1"}, "package_size"),
        ({"model": "package", "package_size": 2**63, "package_price": "1"}, "package_size"),
        ({"model": "package", "package_size": 10}, "package_price"),
        ({"model": "package", "package_size": 10, "package_price": "1", "x": 1}, "x"),
        ({"model": "graduated"}, "tiers"),
        ({"model": "graduated", "tiers": {}}, "tiers"),
        ({"model": "graduated", "tiers": []}, "tiers"),
        ({"model": "volume", "tiers": [LAST] * (MAX_TIERS + 1)}, "tiers"),
        ({"model": "volume", "tiers": [LAST], "unit_price": "1"}, "unit_price"),
        ({"model": "percentage", "percent": "1"}, "unit_value"),
        ({"model": "percentage", "unit_value": "0.01"}, "percent"),
        (percentage(unit_price="1"), "unit_price"),
        (percentage(fixed=None), "fixed"),
        (percentage(minimum="-1"), "minimum"),
        (percentage(maximum=0.5), "maximum"),
        (percentage(minimum="2", maximum="1"), "maximum"),
        (percentage(percent="0.000000000001"), "percent"),
        (percentage(percent="999999999999", unit_value="999999"), "percent"),
        (graduated("tier"), "tiers[0]"),
        (graduated({"up_to": 5, "unit_price": "1"}), "tiers[0].up_to"),
        (graduated({"up_to": None, "unit_price": "1"}, LAST), "tiers[0].up_to"),
        (graduated({"unit_price": "1"}, LAST), "tiers[0].up_to"),
        (graduated({"up_to": 0, "unit_price": "1"}, LAST), "tiers[0].up_to"),
        (graduated({"up_to": "5", "unit_price": "1"}, LAST), "tiers[0].up_to"),
        (graduated({"up_to": None}), "tiers[0].unit_price"),
        (graduated({"up_to": None, "unit_price": "1", "flat_price": 0.5}), "tiers[0].flat_price"),
        (graduated({"up_to": None, "unit_price": "1", "from": 1}), "tiers[0].from"),
        (
            graduated({"up_to": 5, "unit_price": "1"}, {"up_to": 5, "unit_price": "1"}, LAST),
            "tiers[1].up_to",
        ),
        (
            graduated({"up_to": 5, "unit_price": "1"}, {"up_to": 4, "unit_price": "1"}, LAST),
            "tiers[1].up_to",
        ),
    ],
)
def test_bad_prices_are_refused_and_the_member_is_named(data: Any, param: str) -> None:
    with pytest.raises(PriceInvalid) as refused:
        parse_price(data)
    assert refused.value.param == param
    assert refused.value.detail
    assert str(refused.value).endswith(refused.value.detail)
