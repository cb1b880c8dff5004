"""Plans: their versions are drafted, activated, archived; what is on sale is told to metering."""

from __future__ import annotations

import re
from datetime import datetime
from fractions import Fraction
from typing import Any, Final

from django.db import IntegrityError, transaction

from accounts.operations.auditing import audit
from accounts.operations.versions import bump_catalogue
from billing.domain.curves import curve
from billing.domain.prices import parse_price
from billing.models import Plan, PlanEntitlement, PlanVersion
from billing.operations.plan_shapes import PlanInvalid, VersionTerms, read_version
from billing.queries.catalogue import PlanNotOnSale, plans_on_sale
from billing.queries.included import window_unit
from metering.domain.windows import RATE_UNITS
from metering.operations.entitling import OfferTerms
from metering.operations.entitling import publish_offers as publish

State = PlanVersion.State
_KEY: Final = re.compile(r"[a-z0-9][a-z0-9_\-]{0,99}")
_YEARLY: Final = {"day": Fraction(365), "week": Fraction(365, 7), "month": Fraction(12)}


class PlanKeyTaken(Exception):
    """Another plan has this key."""

    param = "key"


class VersionNotDraft(Exception):
    """Only a draft can be activated: what is archived stays so, sell a new version instead."""


def create_plan(
    *,
    key: str,
    name: str,
    terms: VersionTerms,
    description: str = "",
    public: bool = True,
    family: str = "",
    activate: bool = False,
    actor: str,
    now: datetime,
) -> PlanVersion:
    """Create a plan with its first version, on sale at once if `activate`; returns the version.

    Of the plans of a `family` a customer has one trial.

    Raises PlanInvalid (with `param`), PlanKeyTaken.
    """
    check_names(key=key, name=name, description=description, family=family)
    plan = Plan(key=key, name=name, description=description, public=public, created_at=now)
    plan.family = family
    with transaction.atomic():
        try:
            with transaction.atomic():
                plan.save(force_insert=True)
        except IntegrityError as error:
            raise PlanKeyTaken(f"A plan with the key {key!r} exists.") from error
        changes = {"key": key, "name": name}
        audit(actor=actor, action="plan.created", subject=plan.public_id, changes=changes, now=now)
        version = _add_version(plan, terms=terms, actor=actor, now=now)
        if activate:
            _activate(version, actor=actor, now=now)
    return version


def check_names(*, key: str, name: str, description: str, family: str = "") -> None:
    """Raise PlanInvalid where a plan cannot be called like that."""
    if not _KEY.fullmatch(key):
        raise PlanInvalid(
            "key", "1 to 100 of a-z, 0-9, '_' and '-', beginning with one of a-z, 0-9"
        )
    for member, text, least, most in (
        ("name", name, 1, 200),
        ("description", description, 0, 500),
        ("family", family, 0, 100),
    ):
        if not least <= len(text) <= most or "\x00" in text:
            raise PlanInvalid(member, f"has {least} to {most} characters")


def new_version(
    plan_id: int, *, terms: VersionTerms, activate: bool = False, actor: str, now: datetime
) -> PlanVersion:
    """Add a version to a plan, a draft unless `activate`. Subscriptions stay on theirs.

    Raises PlanInvalid, PlanNotOnSale for an archived plan.
    """
    with transaction.atomic():
        version = _add_version(_locked(plan_id), terms=terms, actor=actor, now=now)
        if activate:
            _activate(version, actor=actor, now=now)
    return version


def activate(version_id: int, *, actor: str, now: datetime) -> PlanVersion:
    """Put a draft on sale, in all its currencies, in place of the version that was; from now on it
    never changes.

    Activating the active version changes nothing. Raises VersionNotDraft, PlanNotOnSale.
    """
    with transaction.atomic():
        _locked(PlanVersion.objects.values_list("plan_id", flat=True).get(pk=version_id))
        named = PlanVersion.objects.get(pk=version_id)
        version = PlanVersion.objects.select_related("plan").get(pk=named.sold_id)
        if version.state != State.ACTIVE:
            _activate(version, actor=actor, now=now)
    return version


def archive_plan(plan_id: int, *, actor: str, now: datetime) -> Plan:
    """Take a plan off sale; who is on it stays. A second time changes nothing."""
    with transaction.atomic():
        plan = Plan.objects.select_for_update().get(pk=plan_id)
        if plan.archived_at is None:
            plan.archived_at = now
            plan.save(update_fields=["archived_at"])
            _retire(plan, now=now)
            publish_offers()
            audit(actor=actor, action="plan.archived", subject=plan.public_id, now=now)
    return plan


def publish_offers() -> None:
    """Tell metering what is on sale, in each currency the cheapest by the year first: remedies
    name it."""
    with transaction.atomic():
        bump_catalogue()  # one after the other: who publishes last has seen what the others sell
        publish(offers_on_sale())


def offers_on_sale() -> list[OfferTerms]:
    """What metering is told of each plan on sale."""
    return [
        OfferTerms(
            plan_key=version.plan.key,
            plan_name=version.plan.name,
            rank=int(version.fee * _YEARLY.get(version.interval, Fraction(1))),
            terms=_offer(version),
            currency=version.currency,
        )
        for version in plans_on_sale()
    ]


def _locked(plan_id: int) -> Plan:
    plan = Plan.objects.select_for_update().get(pk=plan_id)
    if plan.archived_at is not None:
        raise PlanNotOnSale(f"The plan {plan.key!r} is archived.")
    return plan


def _add_version(plan: Plan, *, terms: VersionTerms, actor: str, now: datetime) -> PlanVersion:
    priced = read_version(terms)
    latest = plan.versions.order_by("-number").values_list("number", flat=True).first() or 0
    version = priced[0].version
    for each in priced:
        row = each.version
        row.plan, row.number, row.created_at = plan, latest + 1, now
        row.base = None if row is version else version
        row.save(force_insert=True)
        for right in each.rights:
            right.version = row
        PlanEntitlement.objects.bulk_create(each.rights)
    audit(
        actor=actor,
        action="plan.version_created",
        subject=version.public_id,
        changes={"plan": plan.key, "number": version.number},
        now=now,
    )
    return version


def _activate(version: PlanVersion, *, actor: str, now: datetime) -> None:
    if version.state != State.DRAFT:
        raise VersionNotDraft(f"{version} is {version.state}: sell a new version instead.")
    _retire(version.plan, now=now)
    for row in (version, *version.further.all()):
        row.state, row.activated_at = State.ACTIVE, now
        row.save(update_fields=["state", "activated_at"])
    publish_offers()
    audit(actor=actor, action="plan.version_activated", subject=version.public_id, now=now)


def _retire(plan: Plan, *, now: datetime) -> None:
    plan.versions.filter(state=State.ACTIVE).update(state=State.ARCHIVED, archived_at=now)


def _offer(version: PlanVersion) -> dict[str, Any]:
    """What metering.models.Offer keeps of a version: of a meter the longest window first."""
    rights = sorted(
        version.entitlements.order_by("id"), key=lambda right: right.window in RATE_UNITS
    )
    meters: dict[str, dict[str, Any]] = {}
    for right in rights:
        if right.meter_id is None:
            continue
        terms: dict[str, Any] = {
            "included": right.included,
            "unlimited": right.unlimited,
            "over": right.over,
            "overage_limit": right.overage_limit,
            "window": window_unit(right, version=version),
        }
        if right.price:
            terms["curve"] = curve(parse_price(right.price)).to_json()
        longest = meters.setdefault(str(right.meter_id), terms)
        if longest is not terms:
            longest.setdefault("also", []).append(terms)
    return {
        "period": version.interval,
        "meters": meters,
        "features": {
            right.feature: right.value if right.kind == "static" else None
            for right in rights
            if right.meter_id is None
        },
    }
