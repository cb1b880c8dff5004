"""What is measured."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from accounts.domain import ids
from metering.models.prices import PriceTable


class Meter(models.Model):
    """Event type + aggregation + unit; never changed, guarded by the catalogue's version.

    What it says of matching stands until the first MeterVersion's time. A sum with a price table
    is of what tokens cost; its `value_property` names the model.
    """

    class Aggregation(models.TextChoices):
        COUNT = "count", "Count of events"
        SUM = "sum", "Sum of a property"
        MAX = "max", "Greatest value of a property"
        LATEST = "latest", "Latest value of a property"
        UNIQUE = "unique", "Number of different values of a property"

    PREFIX: ClassVar[str] = "mtr"
    id = models.AutoField(primary_key=True)
    key = models.CharField(max_length=100, unique=True)
    event_type = models.CharField(max_length=200)
    aggregation = models.CharField(max_length=8, choices=Aggregation.choices)
    value_property = models.CharField(max_length=100, blank=True)
    dimensions = ArrayField(models.CharField(max_length=100), default=list, blank=True)
    filters = models.JSONField(default=list, blank=True)  # [{"property": "region", "in": ["eu"]}]
    price_table = models.ForeignKey(
        PriceTable, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    unit = models.CharField(max_length=40, default="call")
    display = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=(Q(aggregation="count") & Q(value_property=""))
                | (~Q(aggregation="count") & ~Q(value_property="")),
                name="meter_all_but_a_count_name_a_property",
            ),
            models.CheckConstraint(
                condition=Q(price_table__isnull=True) | Q(aggregation="sum"),
                name="meter_only_sums_are_priced",
            ),
        ]
        indexes = [models.Index(fields=["event_type"], name="meter_event_type")]

    def __str__(self) -> str:
        return self.key

    @property
    def public_id(self) -> str:
        """The id as the API shows it."""
        return ids.encode(self.PREFIX, self.id)


class MeterVersion(models.Model):
    """What a meter matches for events that occurred from `effective_at` on, until the next one.

    Number 1 is the meter itself. Aggregation, unit and key are the meter's for good, so that what
    was counted before and after still is one quantity. Guarded by the catalogue's version.
    """

    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    effective_at = models.DateTimeField()
    event_type = models.CharField(max_length=200)
    value_property = models.CharField(max_length=100, blank=True)
    dimensions = ArrayField(models.CharField(max_length=100), default=list, blank=True)
    filters = models.JSONField(default=list, blank=True)
    price_table = models.ForeignKey(
        PriceTable, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=60)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["meter", "number"], name="meterversion_number"),
            models.UniqueConstraint(
                fields=["meter", "effective_at"], name="meterversion_begins_alone"
            ),
            models.CheckConstraint(condition=Q(number__gte=2), name="meterversion_follows_first"),
        ]

    def __str__(self) -> str:
        return f"{self.meter_id} v{self.number}"
