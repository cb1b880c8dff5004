"""Past periods rated under another version: what was asked, how far it has come, what it gave."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from accounts.models import Customer, Entity
from billing.models.catalogue import PlanVersion
from billing.models.invoices import Invoice


class PriceSimulation(Entity):
    """Periods in `[start_at, end_at)` of some customers (null: all), rated under `version`.

    Periods are taken in the order of their invoices' ids; `last_invoice` is the last one taken.
    """

    class Status(models.TextChoices):
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        STOPPED = "stopped", "Stopped"

    PREFIX: ClassVar[str] = "sim"
    version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="+")
    source = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, null=True, related_name="+")
    start_at = models.DateTimeField()
    end_at = models.DateTimeField()
    customer_ids = models.JSONField(null=True)
    status = models.CharField(max_length=7, choices=Status.choices, default=Status.RUNNING)
    total = models.PositiveIntegerField()  # periods
    done = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)  # of those done, could not be rated
    last_invoice = models.ForeignKey(
        Invoice, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    actor = models.CharField(max_length=60)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(end_at__gt=F("start_at")), name="pricesimulation_span_has_a_length"
            ),
            models.CheckConstraint(
                condition=Q(done__lte=F("total")) & Q(failed__lte=F("done")),
                name="pricesimulation_counts_each_period_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.version} from {self.start_at:%F} to {self.end_at:%F}"


class SimulatedRevenue(models.Model):
    """What a customer's simulated periods come to, in minor units: as it was, as it would be."""

    simulation = models.ForeignKey(
        PriceSimulation, on_delete=models.CASCADE, related_name="revenues"
    )
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="+")
    periods = models.PositiveIntegerField(default=0)
    before = models.BigIntegerField(default=0)
    after = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["simulation", "customer"], name="simulatedrevenue_one_per_customer"
            )
        ]

    def __str__(self) -> str:
        return f"{self.customer_id}: {self.before} to {self.after}"
