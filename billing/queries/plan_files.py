"""What is sold, in the form of a plan file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from billing.models import Plan, PlanEntitlement, PlanVersion


def exported() -> dict[str, Any]:
    """Every plan that is not archived, as the version on sale has it, or its newest draft."""
    found = Plan.objects.filter(archived_at=None).order_by("key")
    return {"plans": {plan.key: plan_as_data(plan) for plan in found}}


def plan_as_data(plan: Plan) -> dict[str, Any]:
    """The plan with the version that is on sale, or the newest where none is."""
    versions = plan.versions.filter(base=None).order_by("-number")
    version = versions.filter(state=PlanVersion.State.ACTIVE).first() or versions.first()
    named: dict[str, Any] = {
        "name": plan.name,
        "description": plan.description,
        "public": plan.public,
        "family": plan.family,
    }
    return named if version is None else named | version_as_data(version)


def version_as_data(
    version: PlanVersion,
    rights: Sequence[PlanEntitlement] | None = None,
    *,
    further: Sequence[tuple[PlanVersion, Sequence[PlanEntitlement]]] = (),
) -> dict[str, Any]:
    """All terms of a version, each member said: two versions are alike where these are equal.

    `rights`: those of a version that is not saved; `further`: it in its further currencies.
    """
    if rights is None:
        rights = rights_of(version)
        further = [(each, rights_of(each)) for each in version.further.order_by("currency")]
    return {
        "currency": version.currency,
        "interval": version.interval,
        "fee": version.fee,
        "trial_days": version.trial_days,
        "trial_card": version.trial_card,
        "trial_end": version.trial_end,
        "grace_days": version.grace_days,
        "minimum": version.minimum,
        "billing_threshold": version.billing_threshold,
        "tax_behavior": version.tax_behavior,
        "tax_code": version.tax_code,
        "seats": version.seats,
        "entitlements": [right_as_data(right) for right in rights],
        "prices": {each.currency: prices_as_data(each, given) for each, given in further},
    }


def rights_of(version: PlanVersion) -> list[PlanEntitlement]:
    """Its rights in the order in which they were written."""
    return list(version.entitlements.select_related("meter").order_by("id"))


def prices_as_data(version: PlanVersion, rights: Sequence[PlanEntitlement]) -> dict[str, Any]:
    """Everything of a version that is money, in the form of `prices`."""
    return {
        "tax_behavior": version.tax_behavior,
        "fee": version.fee,
        "minimum": version.minimum,
        "billing_threshold": version.billing_threshold,
        "seat_price": version.seats["price"] if version.seats else None,
        "meters": {
            right.meter.key: right.price
            for right in rights
            if right.meter is not None and right.price is not None
        },
    }


def right_as_data(right: PlanEntitlement) -> dict[str, Any]:
    """The members of the right's kind, as the API takes them."""
    if right.meter is None:
        named = {"feature": right.feature, "type": right.kind}
        return named | ({"value": right.value} if right.kind == "static" else {})
    return {
        "meter": right.meter.key,
        "type": "metered",
        "included": right.included,
        "unlimited": right.unlimited,
        "window": right.window,
        "rollover": right.rollover,
        "over": right.over,
        "overage_limit": right.overage_limit,
        "price": right.price,
    }
