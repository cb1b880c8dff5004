"""Comparing plans and changing to one: at once, or by way of Stripe Checkout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from billing.domain.plan_changes import ChangeWhen, PlanChangeRefused
from billing.domain.subscriptions import SubscriptionStatus
from billing.models import PlanVersion, Subscription
from billing.operations.changing import (
    ChangePreview,
    PaymentMethodNeeded,
    change_plan,
    preview_change,
)
from billing.operations.checkout import CheckoutAlready, begin_checkout
from billing.operations.subscribing import AlreadySubscribed, subscribe
from billing.pages import wording
from billing.pages.access import PortalView
from billing.payments.checkout import CheckoutClosed, StripePageUnavailable, open_checkout
from billing.payments.returning import return_address
from billing.queries.catalogue import PlanNotOnSale, plans_on_sale
from billing.queries.payment_methods import has_payment_method, needs_payment_method
from billing.queries.subscriptions import current_subscription

UNAVAILABLE = "The payment page does not open at the moment. Please try again in a minute."


@dataclass(frozen=True, slots=True)
class Outlook:
    """What choosing a plan would do. `by_checkout`: a payment method is asked for first."""

    is_current: bool = False
    is_pending: bool = False
    by_checkout: bool = False
    refused: str = ""
    preview: ChangePreview | None = None


class Plans(PortalView):
    """The plans on sale, side by side."""

    def get(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002
        """Show them."""
        subscription = current_subscription(self.customer.id)
        offered = list(plans_on_sale(currency=self.customer.currency))
        return self.show(
            "plans.html",
            plans=[_card(version, subscription=subscription) for version in offered],
            subscription=subscription,
        )


class OnePlan(PortalView):
    """One plan: what it gives, what changing to it does, and the button that does it."""

    def get(self, request: HttpRequest, key: str) -> HttpResponse:  # noqa: ARG002
        """Show it with a preview."""
        version = self._offered(key)
        subscription = current_subscription(self.customer.id)
        outlook = self._outlook(version, subscription=subscription)
        preview = outlook.preview
        return self.show(
            "plan.html",
            outlook=outlook,
            subscription=subscription,
            next_fee=wording.money(version.fee, version.currency),
            total=wording.money(preview.invoice.total, version.currency) if preview else "",
            lines=[
                (line.description, wording.money(line.amount, version.currency))
                for line in preview.invoice.lines
            ]
            if preview
            else [],
            later=preview is not None and preview.when is ChangeWhen.PERIOD_END,
            **_card(version, subscription=subscription),
        )

    def post(self, request: HttpRequest, key: str) -> HttpResponse:
        """Change to it, or lead to Checkout first."""
        version = self._offered(key)
        subscription = current_subscription(self.customer.id)
        outlook = self._outlook(version, subscription=subscription)
        try:
            if outlook.by_checkout:
                return redirect(self._checkout(version))
            self._choose(version, subscription=subscription)
        except PaymentMethodNeeded:
            return redirect(self._checkout(version))
        except (PlanChangeRefused, PlanNotOnSale, CheckoutAlready, AlreadySubscribed) as refused:
            messages.error(request, str(refused))
        except (StripePageUnavailable, CheckoutClosed):
            messages.error(request, UNAVAILABLE)
            return redirect("portal-plan", key=key)
        else:
            self._say_done(request, version)
        return redirect("portal")

    def _offered(self, key: str) -> PlanVersion:
        found = plans_on_sale(currency=self.customer.currency).filter(plan__key=key).first()
        if found is None:
            raise Http404("There is no such plan.")
        return found

    def _outlook(self, version: PlanVersion, *, subscription: Subscription | None) -> Outlook:
        incomplete = subscription is None or subscription.status == SubscriptionStatus.INCOMPLETE
        if incomplete:
            collection = subscription.collection if subscription else "stripe"
            needed = needs_payment_method(version, collection=collection)
            return Outlook(by_checkout=needed and not has_payment_method(self.customer.id))
        assert subscription is not None
        if subscription.version_id == version.pk:
            return Outlook(is_current=True)
        try:
            preview = preview_change(subscription.id, plan=version.plan.key, now=self.now)
        except PaymentMethodNeeded:
            return Outlook(by_checkout=True)
        except PlanChangeRefused as refused:
            return Outlook(refused=str(refused))
        return Outlook(preview=preview, is_pending=subscription.pending_version_id == version.pk)

    def _choose(self, version: PlanVersion, *, subscription: Subscription | None) -> None:
        plan = version.plan.key
        if subscription is None:
            subscribe(self.customer.id, plan=plan, actor=self.actor, now=self.now)
        else:
            change_plan(subscription.id, plan=plan, actor=self.actor, now=self.now)

    def _checkout(self, version: PlanVersion) -> str:
        visit = begin_checkout(
            self.customer.id, plan=version.plan.key, actor=self.actor, now=self.now
        )
        return open_checkout(
            visit,
            success_url=return_address(visit),
            cancel_url=f"{settings.BASE_URL}/portal/plans/{version.plan.key}",
            now=self.now,
        )

    def _say_done(self, request: HttpRequest, version: PlanVersion) -> None:
        subscription = current_subscription(self.customer.id)
        if subscription is not None and subscription.pending_version_id == version.pk:
            at = f"{subscription.current_end_at:%-d %B %Y}"
            messages.success(request, f"{version.plan.name} takes over on {at}.")
        else:
            messages.success(request, f"You are on {version.plan.name} now.")


def _card(version: PlanVersion, *, subscription: Subscription | None) -> dict[str, Any]:
    rights = version.entitlements.select_related("meter").order_by("id")
    minimum = wording.money(version.minimum, version.currency) if version.minimum else ""
    return {
        "version": version,
        "plan": version.plan,
        "fee": wording.fee(version),
        "minimum": minimum,
        "rights": [wording.right(each, version=version) for each in rights],
        "is_current": subscription is not None and subscription.version_id == version.pk,
        "is_pending": subscription is not None and subscription.pending_version_id == version.pk,
    }
