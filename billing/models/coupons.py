"""Coupons, and which customer redeemed which."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from accounts.models import Customer, Entity
from billing.models.catalogue import Plan


class Coupon(Entity):
    """What is taken off coming bills. Its terms never change (trigger): make another code.

    `periods`: off how many bills of periods, null = all. `plans`: of what they charge, empty = of
    all plans. `redemptions` counts the customers that redeemed it.
    """

    PREFIX: ClassVar[str] = "coup"
    code = models.CharField(max_length=40, unique=True)  # in capitals
    name = models.CharField(max_length=200)
    percent = models.DecimalField(max_digits=5, decimal_places=2, null=True, blank=True)
    amounts = models.JSONField(default=dict, blank=True)  # currency -> minor units
    periods = models.PositiveIntegerField(null=True, blank=True)
    plans = models.ManyToManyField(Plan, blank=True, related_name="+")
    max_redemptions = models.PositiveIntegerField(null=True, blank=True)
    redemptions = models.PositiveIntegerField(default=0)
    expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=(Q(percent__isnull=True) & ~Q(amounts={}))
                | Q(percent__gt=0, percent__lte=100, amounts={}),
                name="coupon_is_a_percentage_or_amounts",
            ),
            models.CheckConstraint(
                condition=Q(max_redemptions__isnull=True)
                | Q(redemptions__lte=F("max_redemptions")),
                name="coupon_is_not_redeemed_too_often",
            ),
            models.CheckConstraint(
                condition=Q(periods__isnull=True) | Q(periods__gte=1),
                name="coupon_is_for_a_period_at_least",
            ),
        ]

    def __str__(self) -> str:
        return self.code


class CouponRedemption(Entity):
    """A customer's use of a coupon, once ever. `ended_at`: taken back, for bills of periods that
    end later."""

    PREFIX: ClassVar[str] = "red"
    coupon = models.ForeignKey(Coupon, on_delete=models.PROTECT, related_name="uses")
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="+")
    redeemed_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "coupon"], name="couponredemption_once_per_customer"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.coupon} for {self.customer_id}"
