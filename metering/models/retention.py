"""Which months of raw events are gone, and how far the deleting of closed holds has come."""

from __future__ import annotations

from uuid import UUID

from django.db import models


class RetiredMonth(models.Model):
    """A month of receipt whose events were exported, detached and dropped, as far as it has come.

    From `detached_at` on its events are in no table that anything reads; rollups, balances and
    invoices made of them stay.
    """

    month = models.DateField(primary_key=True)
    events = models.BigIntegerField(default=0)
    exported_to = models.CharField(max_length=1000, blank=True)
    exported_at = models.DateTimeField(null=True)
    detached_at = models.DateTimeField(null=True)
    dropped_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"


class HoldReach(models.Model):
    """How far the one walk through all holds has come that deletes those closed `before` then.

    Up to the hold `after_hold` of the customer `after_customer`, in the order of the primary key,
    none of them is left; in the whole table where it is `done`. One row.
    """

    id = models.SmallIntegerField(primary_key=True)
    before = models.DateTimeField()
    after_customer = models.BigIntegerField(default=0)
    after_hold = models.UUIDField(default=UUID(int=0))
    done = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"closed before {self.before:%F}: {'done' if self.done else 'under way'}"
