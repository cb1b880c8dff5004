"""Plans over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.models import AuditEntry
from billing.models import Plan, PlanVersion
from tests.billing.api.conftest import Caller
from tests.factories.metering import make_meter

pytestmark = pytest.mark.django_db


@pytest.fixture
def pro() -> dict[str, Any]:
    """The contract's own example."""
    make_meter(key="chat.tokens")
    price = {
        "model": "graduated",
        "tiers": [
            {"up_to": 1_000_000, "unit_price": "0.000002", "flat_price": "0"},
            {"up_to": None, "unit_price": "0.000001", "flat_price": "0"},
        ],
    }
    return {
        "key": "pro",
        "name": "Pro",
        "currency": "usd",
        "interval": "month",
        "fee": 2_000,
        "trial_days": 0,
        "trial_card": True,
        "trial_end": "cancel",
        "grace_days": 3,
        "minimum": 0,
        "entitlements": [
            {
                "meter": "chat.tokens",
                "type": "metered",
                "included": 100_000,
                "window": "period",
                "rollover": 0,
                "over": "bill",
                "overage_limit": None,
                "price": price,
            },
            {"feature": "sso", "type": "boolean"},
            {"feature": "region", "type": "static", "value": "eu"},
        ],
        "activate": True,
    }


def test_a_plan_is_created_with_its_version(operator: Caller, pro: dict[str, Any]) -> None:
    answer = operator.post("/plans", pro)
    assert answer.status_code == 201, answer.content
    plan = answer.json()
    assert plan["id"].startswith("plan_")
    version = plan["version"]
    assert version["id"].startswith("pv_")
    assert (version["state"], version["number"], version["fee"]) == ("active", 1, 2_000)
    metered, boolean, static = version["entitlements"]
    assert metered == pro["entitlements"][0] | {"unlimited": False}
    assert boolean == {"type": "boolean", "feature": "sso"}
    assert static == {"type": "static", "feature": "region", "value": "eu"}
    entry = AuditEntry.objects.get(action="plan.created")
    assert entry.actor.startswith("opk_")
    assert operator.seen("/plans/pro") == plan
    assert operator.seen(f"/plans/{plan['id']}") == plan
    assert operator.seen("/plans")["data"] == [plan]


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"fees": 1}, "fees", "parameter_unknown"),
        ({"fee": -1}, "fee", "parameter_invalid"),
        ({"fee": "2000"}, "fee", "parameter_invalid"),
        ({"fee": 20.0}, "fee", "parameter_invalid"),
        ({"interval": "decade"}, "interval", "parameter_invalid"),
        ({"currency": "xxx"}, "currency", "parameter_invalid"),
        ({"key": "Pro plan"}, "key", "parameter_invalid"),
        ({"entitlements": [{"type": "boolean"}]}, "entitlements[0].feature", "parameter_invalid"),
        (
            {"entitlements": [{"type": "metered", "meter": "nothing"}]},
            "entitlements[0].meter",
            "parameter_invalid",
        ),
        (
            {"entitlements": [{"type": "boolean", "feature": "sso", "colour": "red"}]},
            "entitlements[0].colour",
            "parameter_unknown",
        ),
        (
            {
                "entitlements": [
                    {
                        "type": "metered",
                        "meter": "chat.tokens",
                        "over": "bill",
                        "price": {"model": "per_unit", "unit_price": 0.01},
                    }
                ]
            },
            "entitlements[0].price.unit_price",
            "parameter_invalid",
        ),
    ],
)
def test_a_plan_that_does_not_hold_together_is_refused_whole(
    operator: Caller, pro: dict[str, Any], change: dict[str, Any], param: str, code: str
) -> None:
    answer = operator.post("/plans", pro | change)
    assert answer.status_code == 422, answer.content
    assert (answer.json()["code"], answer.json()["param"]) == (code, param)
    assert not Plan.objects.exists()
    assert not PlanVersion.objects.exists()


def test_a_key_is_taken_once(operator: Caller, pro: dict[str, Any]) -> None:
    operator.made("/plans", pro)
    assert operator.post("/plans", pro).status_code == 409
    assert Plan.objects.count() == 1


def test_a_new_version_is_drafted_then_activated(operator: Caller, pro: dict[str, Any]) -> None:
    first = operator.made("/plans", pro)["version"]
    draft = operator.made("/plans/pro/versions", {"fee": 3_000})
    assert (draft["state"], draft["number"], draft["plan"]) == ("draft", 2, "pro")
    assert operator.seen("/plans/pro")["version"] == first
    path = f"/plans/pro/versions/{draft['id']}"
    active = operator.made(f"{path}/activate")
    assert active["state"] == "active"
    assert operator.made(f"{path}/activate") == active
    assert operator.seen("/plans/pro")["version"] == active
    old = operator.seen(f"/plans/pro/versions/{first['id']}")
    assert old["state"] == "archived"
    again = operator.post(f"/plans/pro/versions/{first['id']}/activate")
    assert again.status_code == 409
    numbers = [each["number"] for each in operator.seen("/plans/pro/versions")["data"]]
    assert numbers == [2, 1]


def test_a_version_belongs_to_its_plan(operator: Caller, pro: dict[str, Any]) -> None:
    version = operator.made("/plans", pro)["version"]
    operator.made("/plans", pro | {"key": "other"})
    assert operator.get(f"/plans/other/versions/{version['id']}").status_code == 404
    assert operator.post(f"/plans/other/versions/{version['id']}/activate").status_code == 404


def test_an_archived_plan_is_off_sale(operator: Caller, pro: dict[str, Any]) -> None:
    operator.made("/plans", pro)
    archived = operator.made("/plans/pro/archive")
    assert archived["archived_at"] is not None
    assert operator.made("/plans/pro/archive") == archived
    assert operator.post("/plans/pro/versions", {"fee": 1}).status_code == 409


def test_a_repeated_idempotency_key_makes_one_plan(operator: Caller, pro: dict[str, Any]) -> None:
    first = operator.post("/plans", pro, **{"Idempotency-Key": "once"})
    again = operator.post("/plans", pro, **{"Idempotency-Key": "once"})
    assert again["Farebox-Replayed"] == "true"
    assert again.json() == first.json()
    assert Plan.objects.count() == 1


def test_a_percentage_of_an_amount_meter_is_sold(operator: Caller) -> None:
    make_meter(key="turnover.cents")
    price = {
        "model": "percentage",
        "percent": "2.90",
        "unit_value": "0.01",
        "fixed": "0.30",
        "minimum": None,
        "maximum": "100",
    }
    right = {"meter": "turnover.cents", "type": "metered", "over": "bill", "price": price}
    body = {"key": "shop", "name": "Shop", "entitlements": [right], "activate": True}

    sold = operator.made("/plans", body)["version"]["entitlements"][0]["price"]

    assert sold == {
        "model": "percentage",
        "percent": "2.9",
        "unit_value": "0.01",
        "fixed": "0.3",
        "maximum": "100",
    }
    price["minimum"] = "101"
    refused = operator.post("/plans", body | {"key": "other"})
    assert refused.status_code == 422
    assert refused.json()["param"] == "entitlements[0].price.maximum"
    assert Plan.objects.count() == 1
