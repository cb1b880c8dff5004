"""Applying a plan file: what it says becomes what is sold, all of it or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from django.db import transaction

from accounts.operations.auditing import audit
from billing.domain.plan_files import (
    DescribedPlan,
    Difference,
    PlanFileInvalid,
    differences,
)
from billing.models import Plan, PlanVersion
from billing.operations import catalogue
from billing.operations.plan_shapes import PlanInvalid, Priced, VersionTerms, read_version
from billing.queries.plan_files import plan_as_data, version_as_data

_NAMES = ("name", "description", "public", "family")


@dataclass(frozen=True, slots=True)
class PlanChange:
    """What applying a file does to one plan. `version`: the number that is on sale afterwards,
    or drafted; None in a comparison and where no version is made."""

    key: str
    action: Literal["create", "change", "archive", "none"]
    differences: tuple[Difference, ...] = ()
    version: int | None = None


def compare_plans(
    plans: Sequence[DescribedPlan], *, archive_missing: bool = False
) -> list[PlanChange]:
    """What `apply_plans` would change. Raises PlanFileInvalid, naming the plan and the member."""
    found = {plan.key: plan for plan in Plan.objects.all()}
    changes = [_compare(plan, found.get(plan.key)) for plan in plans]
    if archive_missing:
        named = {plan.key for plan in plans}
        changes += [
            PlanChange(key, "archive")
            for key, plan in sorted(found.items())
            if key not in named and plan.archived_at is None
        ]
    return changes


def apply_plans(
    plans: Sequence[DescribedPlan],
    *,
    activate: bool = True,
    archive_missing: bool = False,
    actor: str,
    now: datetime,
) -> list[PlanChange]:
    """Bring the plans to what the file says, in one transaction; applying it again changes nothing.

    Terms that differ become a new version, on sale unless not to `activate`; a draft with the very
    terms is used. Subscriptions stay on their versions. Raises PlanFileInvalid: then nothing is
    changed at all.
    """
    with transaction.atomic():
        list(Plan.objects.select_for_update().order_by("id").values_list("id", flat=True))
        changes = compare_plans(plans, archive_missing=archive_missing)
        described = {plan.key: plan for plan in plans}
        done = []
        for change in changes:
            version = None
            if change.action == "archive":
                plan = Plan.objects.get(key=change.key)
                catalogue.archive_plan(plan.id, actor=actor, now=now)
            elif change.action != "none":
                version = _apply(
                    described[change.key], change, activate=activate, actor=actor, now=now
                )
            number = version.number if version else None
            done.append(replace(change, version=number))
    return done


def _compare(plan: DescribedPlan, found: Plan | None) -> PlanChange:
    wanted = _wanted(plan)
    if found is None:
        return PlanChange(plan.key, "create", differences({}, wanted))
    if found.archived_at is not None:
        raise PlanFileInvalid(f"plans.{plan.key}", "is archived: sell it under another key")
    changed = differences(plan_as_data(found), wanted)
    if not found.versions.filter(state=PlanVersion.State.ACTIVE).exists():
        changed = (*changed, Difference("state", "draft", "active"))
    return PlanChange(plan.key, "change" if changed else "none", changed)


def _wanted(plan: DescribedPlan) -> dict[str, Any]:
    """The plan as it would be read back. Raises PlanFileInvalid."""
    try:
        catalogue.check_names(
            key=plan.key, name=plan.name, description=plan.description, family=plan.family
        )
        first, *further = read_version(_terms(plan))
    except PlanInvalid as invalid:
        raise PlanFileInvalid(f"plans.{plan.key}.{invalid.param}", invalid.detail) from invalid
    named = {name: getattr(plan, name) for name in _NAMES}
    return named | _as_data(first, further)


def _as_data(first: Priced, further: Sequence[Priced]) -> dict[str, Any]:
    prices = [(each.version, each.rights) for each in further]
    return version_as_data(first.version, first.rights, further=prices)


def _terms(plan: DescribedPlan) -> VersionTerms:
    return VersionTerms(**plan.terms)


def _apply(
    plan: DescribedPlan, change: PlanChange, *, activate: bool, actor: str, now: datetime
) -> PlanVersion | None:
    if change.action == "create":
        return catalogue.create_plan(
            key=plan.key,
            name=plan.name,
            description=plan.description,
            public=plan.public,
            family=plan.family,
            terms=_terms(plan),
            activate=activate,
            actor=actor,
            now=now,
        )
    row = Plan.objects.get(key=plan.key)
    paths = {each.path for each in change.differences}
    if paths & set(_NAMES):
        _rename(row, plan, actor=actor, now=now)
    if not paths - set(_NAMES):
        return None
    first, *further = read_version(_terms(plan))
    wanted = _as_data(first, further)
    newest = row.versions.filter(base=None).order_by("-number").first()
    if newest is None or newest.state != "draft" or version_as_data(newest) != wanted:
        return catalogue.new_version(
            row.id, terms=_terms(plan), activate=activate, actor=actor, now=now
        )
    return catalogue.activate(newest.id, actor=actor, now=now) if activate else newest


def _rename(row: Plan, plan: DescribedPlan, *, actor: str, now: datetime) -> None:
    changes = {
        name: getattr(plan, name) for name in _NAMES if getattr(row, name) != getattr(plan, name)
    }
    for name, value in changes.items():
        setattr(row, name, value)
    row.save(update_fields=list(changes))
    catalogue.publish_offers()
    audit(actor=actor, action="plan.changed", subject=row.public_id, changes=changes, now=now)
