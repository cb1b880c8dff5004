"""The doors of coupons: made by operators, redeemed for customers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.models import Coupon, CouponRedemption
from tests.billing.api.conftest import Caller
from tests.factories.accounts import a_customer
from tests.factories.billing import a_plan, a_subscription

SPRING = {"code": "spring", "name": "Spring", "percent": "12.5", "periods": 3}


def test_one_is_made_redeemed_ended_and_archived(operator: Caller) -> None:
    now = datetime.now(UTC)
    version = a_plan(key="pro")
    customer = a_customer()
    a_subscription(version, customer=customer, start_at=now, now=now)
    until = (now + timedelta(days=9)).isoformat().replace("+00:00", "Z")
    terms = {**SPRING, "plans": ["pro"], "max_redemptions": 5, "expires_at": until}
    made = operator.made("/coupons", terms)
    assert made["id"].startswith("coup_")
    assert made | {"id": "", "created_at": ""} == {
        **terms,
        "id": "",
        "code": "SPRING",
        "amounts": {},
        "redemptions": 0,
        "created_at": "",
        "archived_at": None,
    }
    assert operator.seen("/coupons/Spring") == made
    assert operator.seen("/coupons")["data"] == [made]

    path = f"/customers/{customer.public_id}/coupons"
    redeemed = operator.made(path, {"code": "Spring"})
    assert redeemed["customer"] == customer.public_id
    assert (redeemed["periods_left"], redeemed["coupon"]["redemptions"]) == (3, 1)
    assert operator.seen(path)["data"] == [redeemed]
    preview = operator.seen(f"/customers/{customer.public_id}/invoice-preview")
    assert [line["amount"] for line in preview["lines"]] == [2_000, -250]
    assert operator.post(path, {"code": "Spring"}).json()["code"] == "conflict"

    ended = operator.made(f"{path}/{redeemed['id']}/end")
    assert (ended["periods_left"], ended["ended_at"] is None) == (0, False)
    preview = operator.seen(f"/customers/{customer.public_id}/invoice-preview")
    assert [line["amount"] for line in preview["lines"]] == [2_000]
    assert operator.made("/coupons/SPRING/archive")["archived_at"]
    again = operator.post(f"/customers/{a_customer().public_id}/coupons", {"code": "SPRING"})
    assert (again.status_code, CouponRedemption.objects.count()) == (409, 1)


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        ({}, "percent"),
        ({"percent": "101"}, "percent"),
        ({"percent": 20}, "percent"),
        ({"percent": "20", "amounts": {"usd": 1}}, "percent"),
        ({"amounts": {"usd": 0}}, "amounts.usd"),
        ({"amounts": {"xyz": 5}}, "amounts"),
        ({"percent": "20", "periods": 0}, "periods"),
        ({"percent": "20", "plans": ["none"]}, "plans"),
        ({"percent": "20", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"percent": "20", "code": "a b"}, "code"),
    ],
)
def test_what_is_no_coupon_is_422(operator: Caller, terms: dict[str, Any], param: str) -> None:
    answer = operator.post("/coupons", {"code": "X", "name": "X", **terms})
    assert (answer.status_code, answer.json()["param"]) == (422, param)
    assert not Coupon.objects.exists()


def test_what_is_not_there(operator: Caller) -> None:
    customer = a_customer()
    assert operator.get("/coupons/NONE").status_code == 404
    assert operator.post("/coupons/NONE/archive").status_code == 404
    path = f"/customers/{customer.public_id}/coupons"
    answer = operator.post(path, {"code": "NONE"})
    assert (answer.status_code, answer.json()["param"]) == (422, "code")
    operator.made("/coupons", SPRING)
    redeemed = operator.made(path, {"code": "SPRING"})
    others = f"/customers/{a_customer().public_id}/coupons/{redeemed['id']}/end"
    assert operator.post(others).status_code == 404
    assert CouponRedemption.objects.get().ended_at is None
    assert operator.post("/coupons", SPRING).status_code == 409
