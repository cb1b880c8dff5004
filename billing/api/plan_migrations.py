"""Moving customers between versions of a plan: preview, order, progress, and back."""

from __future__ import annotations

from typing import Any, Final

from django.db.models import Count
from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.describing import describe
from accounts.api.fields import CustomerField, InstantField, PublicIdField, TextField
from accounts.api.serializing import NoBody, StrictSerializer
from accounts.api.views import ManagementView, number_of
from billing.api.fields import TextOrNull
from billing.domain.plan_changes import ChangeWhen
from billing.models import MigratedSubscription, PlanMigration, PlanVersion, Subscription
from billing.operations import migrating

PREVIEWED: Final = 100
CUSTOMERS_MAX: Final = 1_000
WHENS = tuple(each.value for each in ChangeWhen)


class PlanMigrationShape(serializers.Serializer[PlanMigration]):
    """A migration as it is answered; `moves` counts its subscriptions by outcome."""

    id = PublicIdField(PlanMigration.PREFIX, source="pk")
    source = PublicIdField(PlanVersion.PREFIX, source="source_id")  # type: ignore[assignment]
    target = PublicIdField(PlanVersion.PREFIX, source="target_id")
    when = serializers.ChoiceField(WHENS)
    status = serializers.ChoiceField(PlanMigration.Status.values)
    reason = serializers.CharField()
    created_at = InstantField()
    finished_at = InstantField(allow_null=True)
    waiting = serializers.SerializerMethodField()
    moves = serializers.SerializerMethodField()

    def get_waiting(self, migration: PlanMigration) -> int:
        """How many are still to be looked at."""
        return migration.moves.filter(due=True).count()

    def get_moves(self, migration: PlanMigration) -> dict[str, int]:
        """How many came to which outcome."""
        found = migration.moves.order_by().values_list("outcome").annotate(count=Count("id"))
        return dict(found)


class MoveShape(serializers.Serializer[MigratedSubscription]):
    """What became of one subscription."""

    subscription = PublicIdField(Subscription.PREFIX, source="subscription_id")
    customer = CustomerField(source="customer_id")
    outcome = serializers.ChoiceField(MigratedSubscription.Outcome.values)
    detail = TextOrNull(lambda move: move.detail)
    effective_at = InstantField(allow_null=True)


class MovePreviewShape(serializers.Serializer[migrating.MovePreview]):
    """The totals of the period under way, and the fee of a whole one afterwards, as they are and
    as they would be, in minor units."""

    subscription = PublicIdField(Subscription.PREFIX, source="subscription.pk")
    customer = CustomerField(source="subscription.customer_id")
    currency = serializers.CharField(source="before.currency")
    total_before = serializers.IntegerField(source="before.total")
    total_after = serializers.SerializerMethodField()
    next_fee_before = serializers.IntegerField()
    next_fee_after = serializers.IntegerField(allow_null=True)
    refused = TextOrNull(lambda preview: preview.refused)

    def get_total_after(self, preview: migrating.MovePreview) -> int | None:
        """Null where it would not be moved."""
        return preview.after.total if preview.after else None


class MigrationPreviewShape(serializers.Serializer[Any]):
    """How many subscriptions would be looked at, and the first hundred of them."""

    subscriptions = serializers.IntegerField()
    has_more = serializers.BooleanField()
    data = MovePreviewShape(many=True)  # type: ignore[assignment]  # a member


class NewMigration(StrictSerializer):
    """From which version to which (`pv_…`), when, and of which customers (all)."""

    source = PublicIdField(PlanVersion.PREFIX)  # type: ignore[assignment]  # a member
    target = PublicIdField(PlanVersion.PREFIX)
    when = serializers.ChoiceField(WHENS, required=False, default="period_end")
    customers = serializers.ListField(
        child=CustomerField(), required=False, max_length=CUSTOMERS_MAX, min_length=1
    )
    reason = TextField(max_length=500, allow_blank=True, required=False)


class PlanMigrations(ManagementView):
    """All migrations."""

    scopes = {"GET": "subscriptions:read", "POST": "subscriptions:write"}

    @describe("List migrations", answer=PlanMigrationShape, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List migrations of customers between versions, newest first."""
        self.query()
        return self.page(PlanMigration.objects.all(), PlanMigrationShape)

    @describe("Migrate customers", body=NewMigration, answer=PlanMigrationShape, status=201)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Order the customers of a version to be moved to another; a worker does it."""
        asked = _asked(self.body(NewMigration))
        made = migrating.start_migration(**asked, actor=self.actor, now=self.now)
        return Response(PlanMigrationShape(made).data, status=201)


class PreviewMigration(ManagementView):
    """What a migration would do."""

    scopes = {"POST": "subscriptions:read"}

    @describe("Preview a migration", body=NewMigration, answer=MigrationPreviewShape)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Say what the move would cost the first hundred customers, without doing it."""
        asked = _asked(self.body(NewMigration))
        asked.pop("reason", None)
        count, rows = migrating.preview_migration(**asked, limit=PREVIEWED, now=self.now)
        answer = {"subscriptions": count, "has_more": count > len(rows), "data": rows}
        return Response(MigrationPreviewShape(answer).data)


class OnePlanMigration(ManagementView):
    """One migration."""

    scopes = {"GET": "subscriptions:read"}

    @describe("See a migration", answer=PlanMigrationShape)
    def get(self, request: Request, migration: str) -> Response:  # noqa: ARG002
        """See how far a migration has come."""
        self.query()
        return Response(PlanMigrationShape(_migration_of(migration)).data)


class Moves(ManagementView):
    """The subscriptions of one migration."""

    scopes = {"GET": "subscriptions:read"}

    @describe("List a migration's subscriptions", answer=MoveShape, page=True)
    def get(self, request: Request, migration: str) -> Response:  # noqa: ARG002
        """List what became of each subscription, newest first."""
        self.query()
        return self.page(_migration_of(migration).moves.all(), MoveShape)


class RevertMigration(ManagementView):
    """Move the customers back."""

    scopes = {"POST": "subscriptions:write"}

    @describe("Revert a migration", body=NoBody, answer=PlanMigrationShape)
    def post(self, request: Request, migration: str) -> Response:  # noqa: ARG002
        """Move back whoever is not invoiced under the new terms; twice changes nothing."""
        self.body(NoBody)
        found = migrating.revert_migration(
            _migration_of(migration).id, actor=self.actor, now=self.now
        )
        return Response(PlanMigrationShape(found).data)


def _asked(asked: dict[str, Any]) -> dict[str, Any]:
    customers = asked.get("customers")
    return {
        "source_id": asked["source"],
        "target_id": asked["target"],
        "when": ChangeWhen(asked["when"]),
        "customer_ids": None if customers is None else [each.id for each in customers],
        "reason": asked.get("reason", ""),
    }


def _migration_of(public_id: str) -> PlanMigration:
    number = number_of(PlanMigration.PREFIX, public_id)
    found = PlanMigration.objects.filter(pk=number).first()
    if found is None:
        raise Http404("There is no such migration.")
    return found
