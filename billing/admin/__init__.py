"""The admin of billing: plans, subscriptions, invoices, the ledger, what stands with Stripe.

Every change goes through the operations, which audit it; the rest is only shown. A plan's terms
are too rich for a form and are written by the API, which explains what does not hold together.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ActionForm
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from accounts.admin import ReadOnlyAdmin
from billing.admin import coupons as _coupons  # noqa: F401  registered by being read
from billing.admin import simulations as _simulations  # noqa: F401
from billing.admin import stripe as _stripe  # noqa: F401
from billing.admin import terms as _terms  # noqa: F401
from billing.admin import wallets as _wallets  # noqa: F401
from billing.admin.shown import ShownAdmin, ShownTable, money_column
from billing.domain.money import Money, format_money
from billing.models import (
    CreditNote,
    Dispute,
    Invoice,
    InvoiceLine,
    LedgerEntry,
    LedgerPosting,
    PaymentAttempt,
    Plan,
    PlanEntitlement,
    PlanVersion,
    StripeStep,
    Subscription,
    SubscriptionPhase,
)
from billing.operations import catalogue, changing, collecting, retrying, simulating, subscribing


class VersionsInPlan(ShownTable):
    """A plan's versions."""

    model = PlanVersion
    fields = ("number", "state", "currency", "interval", "fee", "minimum", "trial_days")
    fields += ("trial_card", "trial_end", "billing_threshold", "grace_days")  # type: ignore[assignment]
    fields += ("tax_behavior", "tax_code", "activated_at", "archived_at")  # type: ignore[assignment]
    ordering = ("-number", F("base").asc(nulls_first=True), "currency")
    show_change_link = True


@admin.register(Plan)
class PlanAdmin(ShownAdmin):
    """Plans with their versions."""

    list_display = ("name", "key", "public_id", "on_sale", "public", "created_at", "archived_at")
    list_filter = ("public", ("archived_at", admin.EmptyFieldListFilter))
    search_fields = ("key", "name")
    inlines = (VersionsInPlan,)
    actions = ("archive",)

    @admin.display(description="On sale")
    def on_sale(self, plan: Plan) -> str:
        """The version that new subscriptions get."""
        active = plan.versions.filter(state=PlanVersion.State.ACTIVE)
        found = list(active.order_by(F("base").asc(nulls_first=True), "currency"))
        if not found:
            return "no"
        fees = ", ".join(format_money(Money(each.fee, each.currency)) for each in found)
        return f"v{found[0].number}, {fees} a {found[0].interval}"

    @admin.action(description="Archive: take off sale", permissions=["operate"])
    def archive(self, request: HttpRequest, rows: QuerySet[Plan]) -> None:
        """Take the plans off sale; who is on them stays."""
        self.each(request, rows, catalogue.archive_plan)


class EntitlementsInVersion(ShownTable):
    """What a version gives."""

    model = PlanEntitlement
    fields = ("kind", "meter", "feature", "value", "included", "unlimited", "window")
    fields += ("rollover", "over", "overage_limit", "price")  # type: ignore[assignment]


@admin.register(PlanVersion)
class PlanVersionAdmin(ShownAdmin):
    """Versions with their entitlements."""

    list_display = ("plan", "number", "currency", "state", "fee_shown", "interval")
    list_display += ("activated_at",)  # type: ignore[assignment]
    list_filter = ("state", "interval", "currency")
    list_select_related = ("plan",)
    search_fields = ("plan__key", "plan__name")
    inlines = (EntitlementsInVersion,)
    actions = ("activate", "simulate")
    fee_shown = money_column("fee", "Fee")

    @admin.action(description="Activate: put on sale", permissions=["operate"])
    def activate(self, request: HttpRequest, rows: QuerySet[PlanVersion]) -> None:
        """Put drafts on sale, in all their currencies, in place of the versions that were."""
        self.each(request, rows, catalogue.activate)

    @admin.action(description="Simulate: rate the last 12 months under it", permissions=["operate"])
    def simulate(self, request: HttpRequest, rows: QuerySet[PlanVersion]) -> None:
        """Compare what all customers of the currency paid with what they would have; a worker
        does it."""

        def one(key: int, *, actor: str, now: datetime) -> None:
            row = PlanVersion.objects.get(pk=key)
            simulating.start_simulation(
                row.sold_id,
                start_at=now - timedelta(days=365),
                end_at=now,
                currency=row.currency,
                actor=actor,
                now=now,
            )

        self.each(request, rows, one)


class PhasesInSubscription(ShownTable):
    """Under which version it stood when."""

    model = SubscriptionPhase
    ordering = ("-start_at",)


class ChangeForm(ActionForm):
    """To which plan, for the action that changes it."""

    plan = forms.CharField(required=False, max_length=100, label="Plan's key")


@admin.register(Subscription)
class SubscriptionAdmin(ShownAdmin):
    """Subscriptions."""

    list_display = ("customer", "public_id", "version", "status", "collection")
    list_display += ("current_end_at", "pending_version", "cancel_at")  # type: ignore[assignment]
    list_filter = ("status", "collection", "version__plan")
    list_select_related = ("customer", "version__plan", "pending_version__plan")
    search_fields = ("customer__name", "customer__external_id", "customer__email")
    inlines = (PhasesInSubscription,)
    action_form = ChangeForm
    actions = ("change_plan", "pause", "resume", "cancel_later", "cancel_now", "keep")

    @admin.action(description="Change to the plan with this key", permissions=["operate"])
    def change_plan(self, request: HttpRequest, rows: QuerySet[Subscription]) -> None:
        """An upgrade takes over now, another plan when the period ends."""
        plan = request.POST.get("plan", "").strip()
        self.each(request, rows, lambda key, **by: changing.change_plan(key, plan=plan, **by))

    @admin.action(description="Pause: deny calls from now on", permissions=["operate"])
    def pause(self, request: HttpRequest, rows: QuerySet[Subscription]) -> None:
        """Deny calls and bill no further periods."""
        self.each(request, rows, subscribing.pause)

    @admin.action(description="Resume", permissions=["operate"])
    def resume(self, request: HttpRequest, rows: QuerySet[Subscription]) -> None:
        """Serve again."""
        self.each(request, rows, subscribing.resume)

    @admin.action(description="Cancel when the period ends", permissions=["operate"])
    def cancel_later(self, request: HttpRequest, rows: QuerySet[Subscription]) -> None:
        """End it with its period."""
        self.each(request, rows, lambda key, **by: subscribing.cancel(key, when="period_end", **by))

    @admin.action(description="Cancel at once", permissions=["operate"])
    def cancel_now(self, request: HttpRequest, rows: QuerySet[Subscription]) -> None:
        """End it now, with its last invoice."""
        self.each(request, rows, lambda key, **by: subscribing.cancel(key, when="now", **by))

    @admin.action(description="Take a cancellation back", permissions=["operate"])
    def keep(self, request: HttpRequest, rows: QuerySet[Subscription]) -> None:
        """Go on."""
        self.each(request, rows, subscribing.keep)


class LinesInInvoice(ShownTable):
    """An invoice's lines."""

    model = InvoiceLine
    fields = ("position", "kind", "description", "meter", "quantity", "amount", "start_at")
    fields += ("end_at", "detail", "stripe_line")  # type: ignore[assignment]
    ordering = ("position",)


class StepsInInvoice(ShownTable):
    """What was sent to Stripe for it."""

    model = StripeStep
    fields = ("kind", "chunk", "attempt", "state", "sends", "last_sent_at", "http_status", "error")
    ordering = ("created_at", "id")
    show_change_link = True


class AttemptsInInvoice(ShownTable):
    """Tries to collect it."""

    model = PaymentAttempt
    ordering = ("number", "at")


class CreditNotesInInvoice(ShownTable):
    """What was given back of it."""

    model = CreditNote


class DisputesInInvoice(ShownTable):
    """Payments of it that a bank doubts."""

    model = Dispute


@admin.register(Invoice)
class InvoiceAdmin(ShownAdmin):
    """Invoices."""

    list_display = ("__str__", "customer", "status", "push", "total_shown", "tax_shown")
    list_display += ("due_shown",)  # type: ignore[assignment]
    list_display += ("period_start_at", "pdf", "failure_code", "push_problem")  # type: ignore[assignment]
    list_filter = ("status", "push", "tax_status", "currency")
    list_select_related = ("customer", "carried_to")
    search_fields = ("number", "customer__name", "customer__external_id", "stripe_invoice")
    date_hierarchy = "period_start_at"
    inlines = (LinesInInvoice, StepsInInvoice, AttemptsInInvoice, CreditNotesInInvoice)
    inlines += (DisputesInInvoice,)  # type: ignore[assignment]
    actions = ("push_now", "release", "mark_paid", "write_off", "void")
    total_shown = money_column("total", "Total")

    def view_on_site(self, invoice: Invoice) -> str:
        """Where the invoice is shown as its customer sees it."""
        return reverse("operator-invoice", args=(invoice.public_id,))

    @admin.display(description="PDF")
    def pdf(self, invoice: Invoice) -> str:
        """A link to it."""
        address = reverse("operator-invoice-pdf", args=(invoice.public_id,))
        return format_html('<a href="{}">PDF of {}</a>', address, invoice)

    @admin.display(description="Tax", ordering="tax_added")
    def tax_shown(self, invoice: Invoice) -> str:
        """What Stripe computed, on top of the total or in it."""
        return format_money(Money(invoice.tax, invoice.currency)) if invoice.taxed_at else ""

    @admin.display(description="Due")
    def due_shown(self, invoice: Invoice) -> str:
        """What is still to be paid."""
        return format_money(Money(invoice.amount_due, invoice.currency))

    @admin.action(description="Push to Stripe: try again now", permissions=["operate"])
    def push_now(self, request: HttpRequest, rows: QuerySet[Invoice]) -> None:
        """Bring waiting pushes forward."""
        self.each(request, rows, retrying.push_now)

    @admin.action(description="Release from quarantine, after a look", permissions=["operate"])
    def release(self, request: HttpRequest, rows: QuerySet[Invoice]) -> None:
        """Push again what was quarantined."""
        self.each(request, rows, collecting.release_quarantine)

    @admin.action(description="Mark as paid outside of Stripe", permissions=["operate"])
    def mark_paid(self, request: HttpRequest, rows: QuerySet[Invoice]) -> None:
        """The whole amount due came in elsewhere."""
        self.each(
            request,
            rows,
            lambda key, **by: collecting.mark_paid_manually(key, reference="admin", **by),
        )

    @admin.action(description="Write off: nobody expects the money", permissions=["operate"])
    def write_off(self, request: HttpRequest, rows: QuerySet[Invoice]) -> None:
        """Stripe stops collecting; paid later, it is taken back."""
        self.each(request, rows, collecting.mark_uncollectible)

    @admin.action(description="Void: it should never have been", permissions=["operate"])
    def void(self, request: HttpRequest, rows: QuerySet[Invoice]) -> None:
        """Take back what issuing it posted; Stripe stops collecting."""
        self.each(request, rows, collecting.void)


class EntriesInPosting(ShownTable):
    """The sides of a posting."""

    model = LedgerEntry


@admin.register(LedgerPosting)
class LedgerPostingAdmin(ReadOnlyAdmin):
    """Movements of money."""

    list_display = ("occurred_at", "kind", "customer", "invoice", "key", "note")
    list_filter = ("kind",)
    list_select_related = ("customer", "invoice")
    search_fields = ("key", "customer__name", "invoice__number")
    date_hierarchy = "occurred_at"
    inlines = (EntriesInPosting,)
