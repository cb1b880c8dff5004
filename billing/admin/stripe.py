"""The admin of what stands with Stripe: calls, events, customers, disputes, comparisons."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join

from accounts.admin import ReadOnlyAdmin
from billing.admin.shown import ShownAdmin, money_column
from billing.models import (
    CheckoutSession,
    Dispute,
    Invoice,
    Reconciliation,
    StripeCustomer,
    StripeEvent,
    StripeStep,
)
from billing.operations import holding, retrying

_HEADS: Final = ("What", "How", "At Stripe", "Here", "Here it is", "At Stripe it is")


@admin.register(StripeStep)
class StripeStepAdmin(ShownAdmin):
    """Calls to Stripe, as they were sent and answered."""

    list_display = ("key", "kind", "subject", "state", "sends", "http_status", "last_sent_at")
    list_filter = ("state", "kind")
    search_fields = ("key", "subject")
    actions = ("try_again",)

    @admin.action(description="Try again now: push their invoices", permissions=["operate"])
    def try_again(self, request: HttpRequest, rows: QuerySet[StripeStep]) -> None:
        """A pending step is sent again, with its key, by the push of its invoice."""
        pending = rows.filter(state=StripeStep.State.PENDING, invoice__isnull=False)
        numbers = pending.order_by().values_list("invoice_id", flat=True).distinct()
        self.each(request, Invoice.objects.filter(pk__in=numbers), retrying.push_now)


@admin.register(StripeEvent)
class StripeEventAdmin(ShownAdmin):
    """What Stripe told us, and what came of it."""

    list_display = ("type", "id", "created_at", "received_at", "processed_at", "outcome")
    list_display += ("attempts", "next_attempt_at")  # type: ignore[assignment]
    list_filter = (("processed_at", admin.EmptyFieldListFilter), "type")
    search_fields = ("id", "object_id")
    date_hierarchy = "received_at"
    actions = ("try_again",)

    @admin.action(description="Try again now", permissions=["operate"])
    def try_again(self, request: HttpRequest, rows: QuerySet[StripeEvent]) -> None:
        """Bring events that wait forward."""
        self.each(request, rows, retrying.apply_event_now)


@admin.register(StripeCustomer)
class StripeCustomerAdmin(ShownAdmin):
    """Customers' counterparts at Stripe."""

    list_display = ("customer", "stripe_customer", "card_brand", "card_last4", "card_expires_on")
    list_display += ("held_at", "held_reason", "deleted_at")  # type: ignore[assignment]
    list_filter = (("payment_method", admin.EmptyFieldListFilter), "card_brand")
    list_filter += (("held_at", admin.EmptyFieldListFilter),)  # type: ignore[assignment]
    list_filter += (("deleted_at", admin.EmptyFieldListFilter),)  # type: ignore[assignment]
    list_select_related = ("customer",)
    search_fields = ("stripe_customer", "customer__name")
    actions = ("hold", "release", "link_anew")

    @admin.action(description="Hold: collect nothing off-session", permissions=["operate"])
    def hold(self, request: HttpRequest, rows: QuerySet[StripeCustomer]) -> None:
        """Push and charge nothing until it is released."""

        def one(key: int, **by: Any) -> None:
            holding.hold_collection(key, reason="Held in the admin.", **by)

        self.each(request, rows, one)

    @admin.action(description="Release: collect as usual again", permissions=["operate"])
    def release(self, request: HttpRequest, rows: QuerySet[StripeCustomer]) -> None:
        """End what a warning, a lost dispute or a person began."""
        self.each(request, rows, holding.release_collection)

    @admin.action(description="Deleted at Stripe: make it anew there", permissions=["operate"])
    def link_anew(self, request: HttpRequest, rows: QuerySet[StripeCustomer]) -> None:
        """The next call makes another counterpart."""
        self.each(request, rows, holding.link_anew)


@admin.register(Dispute)
class DisputeAdmin(ReadOnlyAdmin):
    """Payments that a bank doubts: disputes, and warnings that one may come."""

    list_display = ("reference", "kind", "customer", "invoice", "amount_shown", "reason")
    list_display += ("status", "opened_at", "closed_at")  # type: ignore[assignment]
    list_filter = ("kind", ("closed_at", admin.EmptyFieldListFilter), "status")
    list_select_related = ("customer", "invoice")
    search_fields = ("reference", "customer__name", "invoice__number")
    date_hierarchy = "opened_at"
    amount_shown = money_column("amount", "Amount")


@admin.register(Reconciliation)
class ReconciliationAdmin(ReadOnlyAdmin):
    """What comparing with Stripe found."""

    list_display = ("__str__", "made_at", "differing", "counts")
    fields = ("start_at", "end_at", "made_at", "counts", "differing", "found")
    readonly_fields = ("found",)
    date_hierarchy = "made_at"

    @admin.display(description="Differences")
    def found(self, row: Reconciliation) -> str:
        """One line each, as the command prints them."""
        if not row.differences:
            return "None: what is here is at Stripe, and the other way round."
        names = ("kind", "how", "stripe_id", "subject", "here", "there")
        lines = [[each[name] or "nothing" for name in names] for each in row.differences]
        head = format_html_join("", '<th scope="col">{}</th>', ((name,) for name in _HEADS))
        cells = "".join(["<td>{}</td>"] * len(names))
        body = format_html_join("", f"<tr>{cells}</tr>", lines)
        return format_html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", head, body)


@admin.register(CheckoutSession)
class CheckoutSessionAdmin(ReadOnlyAdmin):
    """Visits to Stripe Checkout."""

    list_display = ("public_id", "customer", "version", "status", "created_at", "completed_at")
    list_filter = ("status",)
    list_select_related = ("customer", "version__plan")
    search_fields = ("stripe_session", "customer__name")
