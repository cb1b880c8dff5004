"""Sums of usage: by hour as it is rolled up, by day and by month once those are over.

The coarser levels are made of the hours, a slot of the customers at a time, up to the slot's
reach; usage that comes later for what the reach has passed is added to every level at once. So
each level is exact below its reach, and nothing at or above it.
"""

from __future__ import annotations

from typing import Final

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q

from accounts.models import Customer
from metering.domain.meters import MEMBER_BYTES
from metering.models.meters import Meter

SLOTS: Final = 64  # a customer's slot is `id & 63`, in Python and in the statements


class _Sums(models.Model):
    """Usage of one span of time (UTC) by customer, meter and dimensions.

    `quantity`: by the meter's aggregation the sum, the greatest, the latest, or the number of
    members (metering/domain/aggregates.py).
    """

    pk = models.CompositePrimaryKey("customer_id", "meter_id", "start_at", "dimensions")
    # The key begins with the customer, so that it needs no index of its own.
    customer = models.ForeignKey(
        Customer, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    # Without a constraint, which would look the meter up for every row: no meter is ever deleted.
    meter = models.ForeignKey(
        Meter, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    start_at = models.DateTimeField()
    dimensions = models.JSONField(default=dict)
    quantity = models.BigIntegerField()
    events = models.BigIntegerField()
    latest_at = models.DateTimeField(
        null=True
    )  # of a meter that keeps the latest reading: its time

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.customer_id} {self.meter_id} {self.start_at:%F %H}"


class Rollup(_Sums):
    """Usage of one hour."""

    class Meta(_Sums.Meta):
        # Rows lie in the order of their time, more or less: a day is found without a big index.
        indexes = [BrinIndex(fields=["start_at"], name="rollup_start_at", autosummarize=True)]


class RollupMember(models.Model):
    """A member that a unique meter saw in an hour; their number is the bucket's quantity."""

    pk = models.CompositePrimaryKey("customer_id", "meter_id", "start_at", "dimensions", "member")
    # The key begins with the customer, so that it needs no index of its own.
    customer = models.ForeignKey(
        Customer, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    meter = models.ForeignKey(
        Meter, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    start_at = models.DateTimeField()
    dimensions = models.JSONField(default=dict)
    member = models.CharField(max_length=MEMBER_BYTES)

    def __str__(self) -> str:
        return self.member


class DailyRollup(_Sums):
    """Usage of one day below the reach; not of unique meters, whose hours' members are counted."""

    class Meta(_Sums.Meta):
        db_table = "metering_rollupday"
        indexes = [BrinIndex(fields=["start_at"], name="rollupday_start_at", autosummarize=True)]


class MonthlyRollup(_Sums):
    """Usage of one calendar month below the reach."""

    class Meta(_Sums.Meta):
        db_table = "metering_rollupmonth"


class RollupReach(models.Model):
    """Up to which time days and months of a slot's customers are summed; null: none are yet."""

    slot = models.SmallIntegerField(primary_key=True)
    days_to = models.DateTimeField(null=True)
    months_to = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(slot__gte=0, slot__lt=SLOTS), name="rollupreach_slot_is_one_of_64"
            ),
            models.CheckConstraint(
                condition=Q(months_to__isnull=True) | Q(months_to__lte=models.F("days_to")),
                name="rollupreach_months_are_made_of_days",
            ),
        ]

    def __str__(self) -> str:
        return f"slot {self.slot}: days to {self.days_to}, months to {self.months_to}"
