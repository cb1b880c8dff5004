"""Plan files: applied whole or not at all, and once is enough."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.models import AuditEntry
from billing.domain.plan_files import PlanFileInvalid, parse_plan_file
from billing.models import Plan, PlanVersion
from billing.operations import catalogue
from billing.operations.plan_files import PlanChange, apply_plans, compare_plans
from billing.queries.plan_files import exported
from tests.factories.billing import ACTOR, NOW, a_plan, a_subscription, calls, fresh
from tests.factories.metering import make_meter

pytestmark = pytest.mark.django_db


def a_file(**plans: dict[str, Any]) -> dict[str, Any]:
    return {"plans": plans}


def put(data: dict[str, Any], **members: Any) -> list[PlanChange]:
    return apply_plans(parse_plan_file(data), actor=ACTOR, now=NOW, **members)


def actions(changes: list[PlanChange]) -> dict[str, str]:
    return {change.key: change.action for change in changes}


def state() -> list[object]:
    plans = Plan.objects.order_by("key").values_list("key", "name", "public", "archived_at")
    versions = PlanVersion.objects.order_by("plan__key", "number")
    return [*plans, *versions.values_list("plan__key", "number", "state", "fee")]


@pytest.fixture
def sold() -> PlanVersion:
    meter = make_meter(key="api.calls")
    seats = {"included": 1, "price": {"model": "flat", "price": "7"}}
    rights = [calls(meter), {"feature": "sso", "type": "boolean"}]
    region = {"feature": "region", "type": "static", "value": "eu"}
    return a_plan(*rights, region, key="pro", name="Pro", seats=seats)


def test_what_is_exported_is_what_is_sold(sold: PlanVersion) -> None:
    data = exported()
    assert data["plans"]["pro"]["fee"] == 2_000
    before = state()
    assert actions(put(data, archive_missing=True)) == {"pro": "none"}
    assert state() == before


def test_a_new_plan_is_created_on_sale_and_once_is_enough(sold: PlanVersion) -> None:
    data = a_file(team={"name": "Team", "fee": 500, "entitlements": exported_rights()})

    (made,) = put(data)

    assert (made.action, made.version) == ("create", 1)
    assert PlanVersion.objects.get(plan__key="team").state == "active"
    before = state()
    assert actions(put(data)) == {"team": "none"}
    assert state() == before


def exported_rights() -> list[dict[str, Any]]:
    rights: list[dict[str, Any]] = exported()["plans"]["pro"]["entitlements"]
    return rights


def test_other_terms_are_a_new_version_and_customers_stay(sold: PlanVersion) -> None:
    subscription = a_subscription(sold)
    data = exported()
    data["plans"]["pro"]["fee"] = 2_500

    (change,) = put(data)

    assert [(one.path, one.before, one.after) for one in change.differences] == [
        ("fee", 2_000, 2_500)
    ]
    assert change.version == 2
    assert fresh(sold).state == "archived"
    assert fresh(subscription).version == sold
    assert exported() == data


def test_another_name_makes_no_version(sold: PlanVersion) -> None:
    data = exported()
    data["plans"]["pro"] |= {"name": "Professional", "public": False}

    (change,) = put(data)

    assert (change.action, change.version) == ("change", None)
    plan = Plan.objects.get()
    assert (plan.name, plan.public, plan.versions.count()) == ("Professional", False, 1)
    entry = AuditEntry.objects.get(action="plan.changed")
    assert entry.changes == {"name": "Professional", "public": False}


def test_drafts_wait_and_are_used_when_their_time_comes(sold: PlanVersion) -> None:
    data = exported()
    data["plans"]["pro"]["fee"] = 2_500
    data["plans"]["new"] = {"fee": 1}

    for _ in range(2):
        drafted = {change.key: change.version for change in put(data, activate=False)}
        assert drafted == {"new": 1, "pro": 2}
    assert fresh(sold).state == "active"
    assert PlanVersion.objects.filter(state="draft").count() == 2

    put(data)

    assert not PlanVersion.objects.filter(state="draft").exists()
    assert PlanVersion.objects.count() == 3
    assert actions(put(data)) == {"pro": "none", "new": "none"}


def test_a_draft_of_other_terms_is_left_alone(sold: PlanVersion) -> None:
    data = exported()
    data["plans"]["pro"]["fee"] = 2_500
    put(data, activate=False)
    data["plans"]["pro"]["fee"] = 2_600
    assert put(data)[0].version == 3
    assert PlanVersion.objects.get(number=2).state == "draft"


def test_what_is_not_named_stays_unless_it_is_to_go(sold: PlanVersion) -> None:
    a_plan(key="old")
    data = a_file(pro=exported()["plans"]["pro"])
    assert actions(put(data)) == {"pro": "none"}
    assert actions(put(data, archive_missing=True)) == {"pro": "none", "old": "archive"}
    assert Plan.objects.get(key="old").archived_at == NOW
    assert actions(put(data, archive_missing=True)) == {"pro": "none"}


def test_a_comparison_changes_nothing(sold: PlanVersion) -> None:
    data = a_file(pro={"fee": 1}, new={"fee": 2})
    before = state()
    changes = compare_plans(parse_plan_file(data), archive_missing=True)
    assert actions(changes) == {"pro": "change", "new": "create"}
    assert state() == before


@pytest.mark.parametrize(
    ("plan", "param"),
    [
        ({"fee": -1}, "plans.bad.fee"),
        ({"name": ""}, "plans.bad.name"),
        ({"description": "d" * 501}, "plans.bad.description"),
        ({"seats": {"included": 1}}, "plans.bad.seats.price"),
        (
            {"entitlements": [{"meter": "none", "type": "metered"}]},
            "plans.bad.entitlements[0].meter",
        ),
    ],
)
def test_one_bad_plan_and_the_whole_file_is_refused(
    sold: PlanVersion, plan: dict[str, Any], param: str
) -> None:
    before = state()
    with pytest.raises(PlanFileInvalid) as refused:
        put(a_file(good={"fee": 1}, bad=plan), archive_missing=True)
    assert refused.value.param == param
    assert state() == before


def test_an_archived_plan_is_not_sold_again(sold: PlanVersion) -> None:
    data = exported()
    catalogue.archive_plan(sold.plan_id, actor=ACTOR, now=NOW)
    before = state()
    with pytest.raises(PlanFileInvalid):
        put(data | a_file(new={}) | data)
    assert state() == before
    assert exported() == {"plans": {}}
