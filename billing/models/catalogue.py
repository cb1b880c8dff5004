"""What is sold: plans and their versions. A version is immutable once active (trigger).

Prices in a further currency are a row of their own beside the version, with its own rights, so
that whatever reads prices reads one row. Subscriptions point to the row in their currency.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from accounts.domain import ids
from accounts.models import Entity
from metering.models import Entitlement, Meter


class Plan(Entity):
    """What customers choose by name; what it means is said by its versions."""

    PREFIX: ClassVar[str] = "plan"
    key = models.SlugField(max_length=100, unique=True)
    name = models.CharField(max_length=200)
    description = models.CharField(max_length=500, blank=True)
    public = models.BooleanField(default=True)  # offered to customers
    family = models.CharField(max_length=100, blank=True)  # whose trial a customer has only once
    created_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name


class PlanVersion(Entity):
    """draft -> active -> archived; at most one version of a plan is active.

    `base`: the version whose prices in a further currency this row holds; null for the version
    itself. Such a row has the number, the interval and the state of its base, and its public id.
    """

    class State(models.TextChoices):
        DRAFT = "draft", "Draft"
        ACTIVE = "active", "Active"
        ARCHIVED = "archived", "Archived"

    class Interval(models.TextChoices):
        DAY = "day", "Day"
        WEEK = "week", "Week"
        MONTH = "month", "Month"
        YEAR = "year", "Year"

    class TaxBehavior(models.TextChoices):
        EXCLUSIVE = "exclusive", "Tax comes on top"
        INCLUSIVE = "inclusive", "Tax is in the prices"

    PREFIX: ClassVar[str] = "pv"
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="versions")
    base = models.ForeignKey(
        "self", on_delete=models.CASCADE, null=True, blank=True, related_name="further"
    )
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.DRAFT)
    currency = models.CharField(max_length=3)
    interval = models.CharField(max_length=5, choices=Interval.choices, default=Interval.MONTH)
    fee = models.BigIntegerField(default=0)  # minor units, billed at the end of each period
    trial_days = models.PositiveSmallIntegerField(default=0)
    trial_card = models.BooleanField(default=False)  # the trial begins with a payment method
    trial_end = models.CharField(max_length=110, default="wait")  # domain/trials.py
    grace_days = models.PositiveSmallIntegerField(default=3)
    minimum = models.BigIntegerField(default=0)  # minor units per period
    # Usage that comes to so many minor units is billed before the period ends; null: never.
    billing_threshold = models.BigIntegerField(null=True, blank=True)
    # How Stripe Tax takes it; empty: as the settings say.
    tax_behavior = models.CharField(max_length=9, choices=TaxBehavior.choices, blank=True)
    tax_code = models.CharField(max_length=50, blank=True)
    seats = models.JSONField(null=True, blank=True)  # {"included", "price"}: a fee for each seat
    created_at = models.DateTimeField()
    activated_at = models.DateTimeField(null=True, blank=True)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["plan", "number"],
                condition=Q(base__isnull=True),
                name="planversion_number_is_unique_per_plan",
            ),
            models.UniqueConstraint(
                fields=["plan", "number", "currency"],
                name="planversion_currency_is_unique_per_number",
            ),
            models.UniqueConstraint(
                fields=["plan"],
                condition=Q(state="active", base__isnull=True),
                name="planversion_one_is_active",
            ),
            models.UniqueConstraint(
                fields=["plan", "currency"],
                condition=Q(state="active"),
                name="planversion_one_is_active_in_a_currency",
            ),
            models.CheckConstraint(
                condition=Q(fee__gte=0) & Q(minimum__gte=0),
                name="planversion_amounts_are_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(billing_threshold__isnull=True) | Q(billing_threshold__gt=0),
                name="planversion_billing_threshold_is_positive",
            ),
            models.CheckConstraint(
                condition=Q(currency__regex=r"^[a-z]{3}$"),
                name="planversion_currency_is_lowercase_iso",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan} v{self.number}" + (f" in {self.currency}" if self.base_id else "")

    @property
    def sold_id(self) -> int:
        """The id of the version itself, whichever currency this row is in."""
        return self.base_id or self.id

    @property
    def public_id(self) -> str:
        """The id as the API shows it, the same in every currency."""
        return ids.encode(self.PREFIX, self.sold_id)


class PlanEntitlement(models.Model):
    """One right that a version gives. `window` "period" follows the plan's interval and anchor.

    `price`: the JSON of api.md for usage past `included`, null where nothing past it is sold.
    """

    version = models.ForeignKey(PlanVersion, on_delete=models.CASCADE, related_name="entitlements")
    kind = models.CharField(max_length=8, choices=Entitlement.Kind.choices)
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, null=True, blank=True)
    feature = models.CharField(max_length=100, blank=True)
    value = models.CharField(max_length=500, blank=True)
    included = models.BigIntegerField(default=0)
    unlimited = models.BooleanField(default=False)
    window = models.CharField(max_length=8, default="period")
    rollover = models.BigIntegerField(default=0)
    over = models.CharField(
        max_length=4, choices=Entitlement.Over.choices, default=Entitlement.Over.DENY
    )
    overage_limit = models.BigIntegerField(null=True, blank=True)
    price = models.JSONField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["version", "meter", "window"],
                condition=Q(meter__isnull=False),
                name="planentitlement_meter_window_is_unique",
            ),
            models.UniqueConstraint(
                fields=["version", "feature"],
                condition=~Q(feature=""),
                name="planentitlement_feature_is_unique",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.version} {self.meter or self.feature}"
