"""Plans: what is on sale, and which version of a plan holds today."""

from __future__ import annotations

from django.db.models import QuerySet

from accounts.domain.ids import IdMalformed, decode
from billing.models import Plan, PlanVersion


class PlanUnknown(Exception):
    """No plan has this key or id."""

    param = "plan"


class PlanNotOnSale(Exception):
    """The plan is archived, or none of its versions is active."""

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


def active_version(reference: str) -> PlanVersion:
    """The version that new subscriptions get. Raises PlanUnknown, PlanNotOnSale."""
    plan = plan_by_reference(reference)
    version = PlanVersion.objects.select_related("plan").filter(plan=plan, state="active").first()
    if version is None or plan.archived_at is not None:
        raise PlanNotOnSale(f"The plan {plan.key!r} is not on sale.")
    return version


def plans_on_sale(*, currency: str | None = None) -> QuerySet[PlanVersion]:
    """The active versions of public plans, cheapest fee first."""
    found = PlanVersion.objects.filter(
        state=PlanVersion.State.ACTIVE, plan__public=True, plan__archived_at=None
    )
    if currency is not None:
        found = found.filter(currency=currency)
    return found.select_related("plan").order_by("fee", "plan__key")
