"""What the admin's pages of billing stand on: rows to be read, and actions by the operations."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.admin import ReadOnlyAdmin, actor_of
from billing.domain.invoices import InvoiceTransitionRefused
from billing.domain.money import Money, format_money
from billing.domain.plan_changes import PlanChangeRefused
from billing.domain.subscriptions import SubscriptionTransitionRefused
from billing.domain.top_ups import TopUpInvalid
from billing.operations import (
    catalogue,
    changing,
    collecting,
    holding,
    overriding,
    simulating,
    topping_up,
)
from billing.queries.catalogue import PlanNotOnSale, PlanUnknown

if TYPE_CHECKING:  # generic for the type checker only
    Table = admin.TabularInline[Any, Any]
else:
    Table = admin.TabularInline

_REFUSALS: Final = (
    overriding.OverrideInvalid,
    overriding.OverrideOverlaps,
    catalogue.VersionNotDraft,
    changing.PaymentMethodNeeded,
    collecting.CollectedByStripe,
    collecting.InvoiceHasPayments,
    holding.NotDeletedAtStripe,
    InvoiceTransitionRefused,
    PlanChangeRefused,
    PlanNotOnSale,
    PlanUnknown,
    simulating.SimulationRefused,
    SubscriptionTransitionRefused,
    topping_up.TopUpRefused,
    topping_up.TopUpUnderWay,
    TopUpInvalid,
)


class ShownTable(Table):
    """Rows that belong to the one shown, to be read."""

    extra = 0
    can_delete = False
    show_change_link = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Never."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Never."""
        return False


class ShownAdmin(ReadOnlyAdmin):
    """Rows to be read, with actions for whoever may change them."""

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether this person may use the actions."""
        return request.user.has_perm(f"billing.change_{self.opts.model_name}")

    def each(self, request: HttpRequest, rows: QuerySet[Any], do: Callable[..., Any]) -> None:
        """Do one operation for each row chosen; what one refuses keeps no other from its turn."""
        done = 0
        for row in rows:
            try:
                do(row.pk, actor=actor_of(request), now=datetime.now(UTC))
            except _REFUSALS as refused:
                self.message_user(request, f"{row}: {refused}", messages.ERROR)
            else:
                done += 1
        if done:
            self.message_user(request, f"Done for {done}.", messages.SUCCESS)


def money_column(member: str, words: str) -> Any:
    """A column with an amount in minor units, as people write it."""

    @admin.display(description=words, ordering=member)
    def shown(_admin: Any, row: Any) -> str:
        return format_money(Money(getattr(row, member), row.currency))

    return shown
