"""What is measured."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from accounts.domain import ids


class Meter(models.Model):
    """Event type + aggregation + unit; immutable once used, guarded by the catalogue's version."""

    class Aggregation(models.TextChoices):
        COUNT = "count", "Count of events"
        SUM = "sum", "Sum of a property"

    PREFIX: ClassVar[str] = "mtr"
    id = models.AutoField(primary_key=True)
    key = models.CharField(max_length=100, unique=True)
    event_type = models.CharField(max_length=200)
    aggregation = models.CharField(max_length=8, choices=Aggregation.choices)
    value_property = models.CharField(max_length=100, blank=True)
    dimensions = ArrayField(models.CharField(max_length=100), default=list, blank=True)
    filters = models.JSONField(default=list, blank=True)  # [{"property": "region", "in": ["eu"]}]
    unit = models.CharField(max_length=40, default="call")
    display = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=(Q(aggregation="count") & Q(value_property=""))
                | (Q(aggregation="sum") & ~Q(value_property="")),
                name="meter_sum_names_a_property",
            )
        ]
        indexes = [models.Index(fields=["event_type"], name="meter_event_type")]

    def __str__(self) -> str:
        return self.key

    @property
    def public_id(self) -> str:
        """The id as the API shows it."""
        return ids.encode(self.PREFIX, self.id)
