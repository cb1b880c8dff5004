"""Plans and their versions, from draft to archive."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from accounts.models import AuditEntry, CatalogueVersion
from billing.models import Plan, PlanEntitlement, PlanVersion
from billing.operations import catalogue
from billing.operations.plan_shapes import PlanInvalid, VersionTerms
from billing.queries.catalogue import (
    PlanNotOnSale,
    PlanUnknown,
    active_version,
    plan_by_reference,
    plans_on_sale,
)
from metering.models import Meter, Offer
from tests.factories.billing import ACTOR, START, a_plan, calls, fresh
from tests.factories.metering import make_meter

pytestmark = pytest.mark.django_db

LATER = START + timedelta(days=1)


@pytest.fixture
def meter() -> Meter:
    return make_meter(key="chat.tokens")


def test_plan_of_the_contract_is_kept_whole(meter: Meter) -> None:
    tiers = [
        {"up_to": 1_000_000, "unit_price": "0.000002", "flat_price": "0"},
        {"up_to": None, "unit_price": "0.000001", "flat_price": "0"},
    ]
    version = a_plan(
        calls(meter, included=100_000, price={"model": "graduated", "tiers": tiers}),
        {"meter": meter.key, "type": "metered", "included": 60, "window": "minute"},
        {"feature": "sso", "type": "boolean"},
        {"feature": "region", "type": "static", "value": "eu"},
        key="pro",
        trial_days=14,
        minimum=500,
    )

    given = list(PlanEntitlement.objects.filter(version=version).order_by("id"))
    assert [(each.kind, each.window) for each in given][:2] == [
        ("metered", "period"),
        ("metered", "minute"),
    ]
    assert given[0].price == {"model": "graduated", "tiers": tiers}
    assert [(each.feature, each.value) for each in given[2:]] == [("sso", ""), ("region", "eu")]
    assert (version.number, version.state, version.trial_days) == (1, "active", 14)
    assert set(AuditEntry.objects.values_list("action", flat=True)) == {
        "plan.created",
        "plan.version_created",
        "plan.version_activated",
    }


def test_offer_speaks_of_all_windows_the_longest_first_and_of_features(meter: Meter) -> None:
    a_plan(
        calls(meter, included=500, price=None),
        {"meter": meter.key, "type": "metered", "included": 9, "window": "minute"},
        {"feature": "sso", "type": "boolean"},
        {"feature": "region", "type": "static", "value": "eu"},
        key="starter",
        interval="week",
        fee=100,
    )

    offer = Offer.objects.get()
    assert (offer.plan_key, offer.rank) == ("starter", 5_214)
    assert offer.terms == {
        "period": "week",
        "meters": {
            str(meter.id): {
                "included": 500,
                "unlimited": False,
                "over": "deny",
                "overage_limit": None,
                "window": "week",
                "also": [
                    {
                        "included": 9,
                        "unlimited": False,
                        "over": "deny",
                        "overage_limit": None,
                        "window": "minute",
                    }
                ],
            }
        },
        "features": {"sso": None, "region": "eu"},
    }


def test_only_public_plans_with_an_active_version_are_offered() -> None:
    a_plan(key="hidden", public=False)
    a_plan(key="draft", activate=False)
    a_plan(key="dear", fee=900)
    a_plan(key="cheap", fee=100)
    a_plan(key="euro", fee=100, currency="eur")

    assert [each.plan.key for each in plans_on_sale()] == ["cheap", "euro", "dear"]
    assert [each.plan.key for each in plans_on_sale(currency="eur")] == ["euro"]
    assert set(Offer.objects.values_list("plan_key", flat=True)) == {"cheap", "dear", "euro"}


def test_new_version_takes_the_place_of_the_active_one() -> None:
    first = a_plan(key="pro")
    second = catalogue.new_version(
        first.plan_id, terms=VersionTerms(fee=3_000), actor=ACTOR, now=LATER
    )
    assert (second.number, second.state) == (2, "draft")
    assert active_version("pro") == first

    catalogue.activate(second.id, actor=ACTOR, now=LATER)

    assert fresh(first).state == "archived"
    assert active_version(first.plan.public_id) == second
    assert Offer.objects.get().rank == 36_000


def test_new_version_can_be_activated_at_once_and_twice() -> None:
    first = a_plan(key="pro")
    second = catalogue.new_version(
        first.plan_id, terms=VersionTerms(fee=1), activate=True, actor=ACTOR, now=LATER
    )
    before = CatalogueVersion.objects.get().version

    catalogue.activate(second.id, actor=ACTOR, now=LATER)

    assert CatalogueVersion.objects.get().version == before
    assert active_version("pro") == second


def test_archived_version_is_not_activated_again() -> None:
    first = a_plan(key="pro")
    catalogue.new_version(
        first.plan_id, terms=VersionTerms(), activate=True, actor=ACTOR, now=LATER
    )
    with pytest.raises(catalogue.VersionNotDraft):
        catalogue.activate(first.id, actor=ACTOR, now=LATER)


def test_archived_plan_is_off_sale_for_good() -> None:
    version = a_plan(key="pro")
    for _ in range(2):
        catalogue.archive_plan(version.plan_id, actor=ACTOR, now=LATER)

    assert fresh(version).state == "archived"
    assert not Offer.objects.exists()
    assert AuditEntry.objects.filter(action="plan.archived").count() == 1
    with pytest.raises(PlanNotOnSale):
        active_version("pro")
    with pytest.raises(PlanNotOnSale):
        catalogue.new_version(version.plan_id, terms=VersionTerms(), actor=ACTOR, now=LATER)


def test_plans_are_found_by_key_or_id_only() -> None:
    version = a_plan(key="pro")
    assert plan_by_reference("pro") == plan_by_reference(version.plan.public_id) == version.plan
    for unknown in ("no-such", "plan_0000000000000", "plan_!"):
        with pytest.raises(PlanUnknown):
            plan_by_reference(unknown)


def test_key_is_taken_once() -> None:
    a_plan(key="pro")
    with pytest.raises(catalogue.PlanKeyTaken):
        a_plan(key="pro")
    assert Plan.objects.count() == 1


def test_database_keeps_active_versions_as_they_are(meter: Meter) -> None:
    version = a_plan(calls(meter))
    with pytest.raises(IntegrityError, match="cannot change"), transaction.atomic():
        PlanVersion.objects.filter(pk=version.pk).update(fee=1)
    with pytest.raises(IntegrityError, match="cannot change"), transaction.atomic():
        PlanEntitlement.objects.filter(version=version).update(included=10**9)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"key": "Pro!"}, "key"),
    ({"name": ""}, "name"),
    ({"currency": "xxx"}, "currency"),
    ({"interval": "decade"}, "interval"),
    ({"tax_behavior": "both"}, "tax_behavior"),
    ({"tax_code": "vat"}, "tax_code"),
    ({"tax_code": 7}, "tax_code"),
    ({"fee": -1}, "fee"),
    ({"fee": 1.5}, "fee"),
    ({"fee": True}, "fee"),
    ({"fee": 10**12}, "fee"),
    ({"currency": "ugx", "fee": 150}, "fee"),
    ({"minimum": "5"}, "minimum"),
    ({"trial_days": 9_999}, "trial_days"),
    ({"grace_days": -1}, "grace_days"),
]
BAD_RIGHTS: list[tuple[Any, str]] = [
    ("text", ""),
    ({"type": "other"}, ".type"),
    ({"type": ["metered"]}, ".type"),
    ({"type": "boolean", "feature": "SSO !"}, ".feature"),
    ({"type": "boolean", "feature": 5}, ".feature"),
    ({"type": "boolean", "feature": "sso", "value": "x"}, ".value"),
    ({"type": "static", "feature": "region"}, ".value"),
    ({"type": "static", "feature": "region", "value": 5}, ".value"),
    ({"type": "metered", "meter": "no.such"}, ".meter"),
    ({"type": "metered", "meter": ["chat.tokens"]}, ".meter"),
    ({"type": "metered", "meter": "a\x00"}, ".meter"),
    ({"window": "fortnight"}, ".window"),
    ({"over": "maybe"}, ".over"),
    ({"unlimited": "yes"}, ".unlimited"),
    ({"included": -1}, ".included"),
    ({"rollover": 0.5}, ".rollover"),
    ({"overage_limit": -1, "over": "bill"}, ".overage_limit"),
    ({"overage_limit": 5}, ".overage_limit"),
    ({"price": {"model": "per_unit", "unit_price": "1"}}, ".price"),
    ({"over": "bill"}, ".price"),
    ({"over": "bill", "unlimited": True}, ".price"),
    ({"over": "bill", "window": "hour"}, ".over"),
    ({"over": "bill", "price": "cheap"}, ".price"),
    ({"over": "bill", "price": {"model": "per_unit", "unit_price": "-1"}}, ".price.unit_price"),
    ({"colour": "red"}, ".colour"),
]


@pytest.mark.parametrize(("terms", "param"), BAD)
def test_bad_plan_is_refused_naming_the_member(terms: dict[str, Any], param: str) -> None:
    with pytest.raises(PlanInvalid) as refused:
        a_plan(**terms)
    assert refused.value.param == param
    assert not Plan.objects.exists()


@pytest.mark.parametrize(("right", "param"), BAD_RIGHTS)
def test_bad_entitlement_is_refused_naming_the_member(meter: Meter, right: Any, param: str) -> None:
    if isinstance(right, dict) and "type" not in right:
        right = {"type": "metered", "meter": meter.key, **right}
    with pytest.raises(PlanInvalid) as refused:
        a_plan({"feature": "first", "type": "boolean"}, right)
    assert refused.value.param == f"entitlements[1]{param}"
    assert not Plan.objects.exists()


def test_contradictions_are_refused(meter: Meter) -> None:
    monthly = calls(meter, window="month", price=None)
    with pytest.raises(PlanInvalid, match=r"chat\.tokens is entitled twice"):
        a_plan(monthly, calls(meter))
    sso = {"feature": "sso", "type": "boolean"}
    with pytest.raises(PlanInvalid, match="sso is entitled twice"):
        a_plan(sso, sso)
    with pytest.raises(PlanInvalid, match="at most 200"):
        a_plan(*[{"feature": f"f{n}", "type": "boolean"} for n in range(201)])
