"""Plans: what is on sale, and which version of a plan holds today."""

from __future__ import annotations

from django.db.models import F, Q, QuerySet

from accounts.domain.ids import IdMalformed, decode
from billing.models import Plan, PlanVersion


class PlanUnknown(Exception):
    """No plan has this key or id."""

    param = "plan"


class PlanNotOnSale(Exception):
    """The plan is archived, or none of its versions is active."""

    param = "plan"


class CurrencyUnfit(Exception):
    """The plan has no price in the currency that the customer pays in."""

    param = "plan"


def plan_by_reference(reference: str) -> Plan:
    """The plan with this key or `plan_…`. Raises PlanUnknown."""
    plan = Plan.objects.filter(key=reference).first()
    if plan is None:
        try:
            plan = Plan.objects.filter(pk=decode(Plan.PREFIX, reference)).first()
        except IdMalformed:
            plan = None
    if plan is None:
        raise PlanUnknown(f"There is no plan {reference[:100]!r}.")
    return plan


def active_version(reference: str, *, currency: str | None = None) -> PlanVersion:
    """The version that new subscriptions get, with its prices in `currency`.

    Raises PlanUnknown, PlanNotOnSale, CurrencyUnfit.
    """
    plan = plan_by_reference(reference)
    active = PlanVersion.objects.filter(plan=plan, state="active", base=None)
    version = active.select_related("plan").first()
    if version is None or plan.archived_at is not None:
        raise PlanNotOnSale(f"The plan {plan.key!r} is not on sale.")
    return version if currency is None else in_currency(version, currency=currency)


def in_currency(version: PlanVersion, *, currency: str) -> PlanVersion:
    """The version with its prices in `currency`. Raises CurrencyUnfit, which names those it has."""
    if version.currency == currency:
        return version
    rows = in_all_currencies(version)
    found = next((each for each in rows if each.currency == currency), None)
    if found is None:
        listed = ", ".join(each.currency for each in rows)
        raise CurrencyUnfit(
            f"The plan {version.plan.key!r} has no price in {currency}, in which the customer pays;"
            f" it has one in {listed}."
        )
    return found


def in_all_currencies(version: PlanVersion) -> list[PlanVersion]:
    """The version itself, then its prices in each further currency."""
    found = PlanVersion.objects.select_related("plan").filter(
        Q(pk=version.sold_id) | Q(base=version.sold_id)
    )
    return list(found.order_by(F("base").asc(nulls_first=True), "currency"))


def plans_on_sale(*, currency: str | None = None) -> QuerySet[PlanVersion]:
    """The active versions of public plans, cheapest fee first; in each currency, or in one."""
    found = PlanVersion.objects.filter(
        state=PlanVersion.State.ACTIVE, plan__public=True, plan__archived_at=None
    )
    if currency is not None:
        found = found.filter(currency=currency)
    return found.select_related("plan").order_by("fee", "plan__key")
