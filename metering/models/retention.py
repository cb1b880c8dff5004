"""Which months of raw events are gone."""

from __future__ import annotations

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
