"""The admin of price simulations; they are started from a plan version or over the API."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet, Sum
from django.http import HttpRequest

from accounts.admin import ReadOnlyAdmin
from billing.admin.shown import ShownAdmin
from billing.domain.money import Money, format_money
from billing.models import PriceSimulation, SimulatedRevenue
from billing.operations import simulating


@admin.register(PriceSimulation)
class PriceSimulationAdmin(ShownAdmin):
    """Simulations, how far they have come, and what they come to."""

    list_display = ("version", "public_id", "start_at", "end_at", "status", "progress")
    list_display += ("before", "after", "created_at")  # type: ignore[assignment]
    list_filter = ("status",)
    list_select_related = ("version__plan",)
    actions = ("stop",)

    @admin.display(description="Periods")
    def progress(self, simulation: PriceSimulation) -> str:
        """So many of so many."""
        failed = f", {simulation.failed:,} failed" if simulation.failed else ""
        return f"{simulation.done:,} of {simulation.total:,}{failed}"

    @admin.display(description="As it was")
    def before(self, simulation: PriceSimulation) -> str:
        """What the periods come to."""
        return _sum(simulation, "before")

    @admin.display(description="As it would be")
    def after(self, simulation: PriceSimulation) -> str:
        """What they would come to."""
        return _sum(simulation, "after")

    @admin.action(description="Stop: leave it at what it has come to", permissions=["operate"])
    def stop(self, request: HttpRequest, rows: QuerySet[PriceSimulation]) -> None:
        """Stop those that are running."""
        self.each(request, rows, simulating.stop_simulation)


@admin.register(SimulatedRevenue)
class SimulatedRevenueAdmin(ReadOnlyAdmin):
    """What each customer paid and would have paid, in minor units."""

    list_display = ("simulation", "customer", "periods", "before", "after", "difference")
    list_filter = ("simulation",)
    list_select_related = ("simulation__version__plan", "customer")
    search_fields = ("customer__name", "customer__external_id")

    @admin.display(description="Difference")
    def difference(self, row: SimulatedRevenue) -> str:
        """How much more, or less, it would be."""
        return f"{row.after - row.before:+,}"


def _sum(simulation: PriceSimulation, member: str) -> str:
    amount = simulation.revenues.aggregate(sum=Sum(member))["sum"] or 0
    return format_money(Money(amount, simulation.version.currency))
