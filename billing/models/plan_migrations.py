"""Moving customers from one version of a plan to another, in bulk."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from accounts.models import Customer, Entity
from billing.models.catalogue import PlanVersion
from billing.models.subscriptions import Subscription


class PlanMigration(Entity):
    """An order to move the subscriptions of one version to another: running -> done, and back
    again: reverting -> reverted."""

    class When(models.TextChoices):
        NOW = "now", "At once"
        PERIOD_END = "period_end", "When their periods end"

    class Status(models.TextChoices):
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        REVERTING = "reverting", "Being reverted"
        REVERTED = "reverted", "Reverted"

    PREFIX: ClassVar[str] = "mig"
    source = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="+")
    target = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="+")
    when = models.CharField(max_length=10, choices=When.choices)
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.RUNNING)
    actor = models.CharField(max_length=60)
    reason = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=~Q(source=F("target")), name="planmigration_goes_somewhere"
            )
        ]

    def __str__(self) -> str:
        return f"{self.source} to {self.target}"


class MigratedSubscription(models.Model):
    """What became of one subscription of a migration. `effective_at`: from when on it stands, or
    will stand, under the target; `due`: there is something to do with it."""

    class Outcome(models.TextChoices):
        PENDING = "pending", "To be moved"
        SCHEDULED = "scheduled", "Moves when its period ends"
        MOVED = "moved", "Moved"
        REFUSED = "refused", "Cannot be moved"
        REVERTED = "reverted", "Moved back"
        KEPT = "kept", "Cannot be moved back"

    migration = models.ForeignKey(PlanMigration, on_delete=models.CASCADE, related_name="moves")
    subscription = models.ForeignKey(Subscription, on_delete=models.CASCADE, related_name="+")
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="+")
    outcome = models.CharField(max_length=9, choices=Outcome.choices, default=Outcome.PENDING)
    detail = models.CharField(max_length=500, blank=True)
    effective_at = models.DateTimeField(null=True, blank=True)
    due = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["migration", "subscription"], name="migratedsubscription_is_moved_once"
            )
        ]
        indexes = [
            models.Index(
                fields=["migration", "id"], condition=Q(due=True), name="migratedsubscription_due"
            )
        ]

    def __str__(self) -> str:
        return f"{self.subscription_id}: {self.outcome}"
