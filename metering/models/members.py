"""The members that unique meters have seen, all of them, so that every number is exact."""

from __future__ import annotations

from django.db import models

from accounts.models import Customer
from metering.domain.meters import MEMBER_BYTES
from metering.models.meters import Meter
from metering.models.rights import Window


class WindowMember(models.Model):
    """A member that was seen in a window of a right; their number is the balance's `used`.

    Guarded by the customer's version, as balances are.
    """

    pk = models.CompositePrimaryKey("customer_id", "meter_id", "window", "start_at", "member")
    customer = models.ForeignKey(
        Customer, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    meter = models.ForeignKey(
        Meter, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    window = models.CharField(max_length=8, choices=Window.choices)
    start_at = models.DateTimeField()
    member = models.CharField(max_length=MEMBER_BYTES)

    def __str__(self) -> str:
        return self.member
