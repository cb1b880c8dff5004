"""Plan files: what is one, and how two states differ."""

from __future__ import annotations

from typing import Any

import pytest

from billing.domain.plan_files import (
    PLANS_MAX,
    DescribedPlan,
    Difference,
    PlanFileInvalid,
    differences,
    parse_plan_file,
)


def test_a_plan_needs_no_more_than_a_key() -> None:
    assert parse_plan_file({"plans": {"free": {}}}) == (
        DescribedPlan("free", "free", "", True, "", {}),
    )


def test_names_and_terms_are_told_apart() -> None:
    right = {"feature": "sso", "type": "boolean"}
    data = {
        "name": "Pro",
        "description": "d",
        "public": False,
        "family": "chat",
        "fee": 5,
        "entitlements": [right],
    }
    (plan,) = parse_plan_file({"plans": {"pro": data}})
    assert plan == DescribedPlan(
        "pro", "Pro", "d", False, "chat", {"fee": 5, "entitlements": [right]}
    )


@pytest.mark.parametrize(
    ("data", "param"),
    [
        (None, ""),
        ([], ""),
        ({}, ""),
        ({"plans": {}, "meters": {}}, ""),
        ({"plans": []}, "plans"),
        ({"plans": {f"p{n}": {} for n in range(PLANS_MAX + 1)}}, "plans"),
        ({"plans": {2026: {}}}, "plans"),
        ({"plans": {"pro": None}}, "plans.pro"),
        ({"plans": {"pro": {"price": 5}}}, "plans.pro.price"),
        ({"plans": {"pro": {"name": 5}}}, "plans.pro.name"),
        ({"plans": {"pro": {"public": "yes"}}}, "plans.pro.public"),
        ({"plans": {"pro": {"entitlements": {}}}}, "plans.pro.entitlements"),
        ({"plans": {"pro": {"entitlements": ["sso"]}}}, "plans.pro.entitlements"),
    ],
)
def test_what_is_no_plan_file_is_refused(data: Any, param: str) -> None:
    with pytest.raises(PlanFileInvalid) as refused:
        parse_plan_file(data)
    assert refused.value.param == param


def test_differences_are_told_member_by_member() -> None:
    before = {"fee": 1, "gone": 2, "seats": {"included": 1, "price": {"unit_price": "1"}}}
    after = {"fee": 1, "new": 3, "seats": {"included": 1, "price": {"unit_price": "2"}}}
    assert differences(before, after) == (
        Difference("gone", 2, None),
        Difference("seats.price.unit_price", "1", "2"),
        Difference("new", None, 3),
    )


def test_rights_are_compared_by_what_they_name_and_not_by_their_order() -> None:
    calls = {"meter": "api.calls", "window": "period", "included": 10}
    bursts = {"meter": "api.calls", "window": "minute", "included": 2}
    sso = {"feature": "sso", "type": "boolean"}
    before = {"entitlements": [calls, sso, bursts]}
    assert differences(before, {"entitlements": [bursts, calls, sso]}) == ()
    after = {"entitlements": [bursts, calls | {"included": 20}]}
    assert differences(before, after) == (
        Difference("entitlements.api.calls/period.included", 10, 20),
        Difference("entitlements.sso", sso, None),
    )


def test_tiers_are_compared_whole() -> None:
    before, after = [{"up_to": None, "unit_price": "1"}], [{"up_to": None, "unit_price": "2"}]
    assert differences({"tiers": before}, {"tiers": after}) == (Difference("tiers", before, after),)
