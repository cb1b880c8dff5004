"""Price simulations: past periods under another version, customer by customer."""

from __future__ import annotations

from typing import Any, Final

from django.db.models import Sum
from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.describing import describe
from accounts.api.fields import CurrencyField, CustomerField, InstantField, PublicIdField
from accounts.api.serializing import NoBody, StrictSerializer
from accounts.api.views import ManagementView, number_of
from billing.models import PlanVersion, PriceSimulation, SimulatedRevenue
from billing.operations import simulating

CUSTOMERS_MAX: Final = 1_000


class PriceSimulationShape(serializers.Serializer[PriceSimulation]):
    """A simulation as it is answered. Of `total` periods `done` are counted, but for those that
    `failed`; `before` and `after` are what they come to, in minor units of `currency`."""

    id = PublicIdField(PriceSimulation.PREFIX, source="pk")
    version = PublicIdField(PlanVersion.PREFIX, source="version.sold_id")
    source = PublicIdField(  # type: ignore[assignment]  # a member
        PlanVersion.PREFIX, source="source_id", allow_null=True
    )
    start_at = InstantField()
    end_at = InstantField()
    status = serializers.ChoiceField(PriceSimulation.Status.values)
    total = serializers.IntegerField()
    done = serializers.IntegerField()
    failed = serializers.IntegerField()
    currency = serializers.CharField(source="version.currency")
    before = serializers.SerializerMethodField()
    after = serializers.SerializerMethodField()
    created_at = InstantField()
    finished_at = InstantField(allow_null=True)

    def get_before(self, simulation: PriceSimulation) -> int:
        """What the periods come to as usage is known today."""
        return simulation.revenues.aggregate(sum=Sum("before"))["sum"] or 0

    def get_after(self, simulation: PriceSimulation) -> int:
        """What they would come to."""
        return simulation.revenues.aggregate(sum=Sum("after"))["sum"] or 0


class SimulatedRevenueShape(serializers.Serializer[SimulatedRevenue]):
    """What a customer's periods come to, in minor units."""

    customer = CustomerField(source="customer_id")
    name = serializers.CharField(source="customer.name")
    periods = serializers.IntegerField()
    before = serializers.IntegerField()
    after = serializers.IntegerField()
    difference = serializers.SerializerMethodField()

    def get_difference(self, row: SimulatedRevenue) -> int:
        """How much more, or less, it would be."""
        return row.after - row.before


class NewPriceSimulation(StrictSerializer):
    """Under which version (`pv_…`, a draft too), in which currency (its first), which periods, and
    whose (all).

    A period is in it where it lies in `[start_at, end_at)`; with `source`, of subscriptions that
    stood under that version.
    """

    version = PublicIdField(PlanVersion.PREFIX)
    currency = CurrencyField(required=False)
    start_at = InstantField()
    end_at = InstantField()
    source = PublicIdField(  # type: ignore[assignment]  # a member
        PlanVersion.PREFIX, required=False, allow_null=True
    )
    customers = serializers.ListField(
        child=CustomerField(), required=False, max_length=CUSTOMERS_MAX, min_length=1
    )


class PriceSimulations(ManagementView):
    """All simulations."""

    scopes = {"GET": "reports:read", "POST": "reports:read"}

    @describe("List price simulations", answer=PriceSimulationShape, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List price simulations, newest first."""
        self.query()
        return self.page(PriceSimulation.objects.select_related("version"), PriceSimulationShape)

    @describe("Simulate prices", body=NewPriceSimulation, answer=PriceSimulationShape, status=201)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Ask for past periods to be rated under another version; a worker does it."""
        asked: dict[str, Any] = self.body(NewPriceSimulation)
        customers = asked.get("customers")
        made = simulating.start_simulation(
            asked["version"],
            start_at=asked["start_at"],
            end_at=asked["end_at"],
            source_id=asked.get("source"),
            currency=asked.get("currency"),
            customer_ids=None if customers is None else [each.id for each in customers],
            actor=self.actor,
            now=self.now,
        )
        return Response(PriceSimulationShape(made).data, status=201)


class OnePriceSimulation(ManagementView):
    """One simulation."""

    scopes = {"GET": "reports:read"}

    @describe("See a price simulation", answer=PriceSimulationShape)
    def get(self, request: Request, simulation: str) -> Response:  # noqa: ARG002
        """See how far a simulation has come, and what it comes to."""
        self.query()
        return Response(PriceSimulationShape(_simulation_of(simulation)).data)


class SimulatedCustomers(ManagementView):
    """The customers of one simulation."""

    scopes = {"GET": "reports:read"}

    @describe("List a simulation's customers", answer=SimulatedRevenueShape, page=True)
    def get(self, request: Request, simulation: str) -> Response:  # noqa: ARG002
        """List what each customer paid and would have paid."""
        self.query()
        found = _simulation_of(simulation).revenues.select_related("customer")
        return self.page(found, SimulatedRevenueShape)


class StopPriceSimulation(ManagementView):
    """Stop one."""

    scopes = {"POST": "reports:read"}

    @describe("Stop a price simulation", body=NoBody, answer=PriceSimulationShape)
    def post(self, request: Request, simulation: str) -> Response:  # noqa: ARG002
        """Leave a simulation at what it has come to; twice changes nothing."""
        self.body(NoBody)
        found = simulating.stop_simulation(
            _simulation_of(simulation).id, actor=self.actor, now=self.now
        )
        return Response(PriceSimulationShape(found).data)


def _simulation_of(public_id: str) -> PriceSimulation:
    number = number_of(PriceSimulation.PREFIX, public_id)
    found = PriceSimulation.objects.select_related("version").filter(pk=number).first()
    if found is None:
        raise Http404("There is no such simulation.")
    return found
