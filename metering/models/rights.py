"""What a customer may use: entitlements, grants, balances, and the standing billing reports.

All of it is guarded by the customer's version (accounts.CustomerVersion): whoever changes a row
here raises that version in the same transaction.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from accounts.models import Customer, new_entity_id
from metering.models.meters import Meter


class Window(models.TextChoices):
    """In what span of time a limit counts. `period` is not one: billing says which span it is."""

    MINUTE = "minute", "Minute"
    HOUR = "hour", "Hour"
    DAY = "day", "Day"
    WEEK = "week", "Week"
    MONTH = "month", "Month"
    YEAR = "year", "Year"
    LIFETIME = "lifetime", "Lifetime"


class Standing(models.Model):
    """What billing says of a customer. No row: nothing was ever sold (`no_subscription`).

    From `deny_at` on every check is denied with `deny_code` (a 402 code of the contract);
    null means the customer is in good standing. `spend_limit`: how much overage may cost in a
    billing period, as metering.domain.spending.SpendLimit writes it; null for no limit. `agreed`:
    what holds on any plan, a list as metering.domain.agreed.Agreed writes it; null for nothing.
    """

    customer = models.OneToOneField(Customer, on_delete=models.CASCADE, primary_key=True)
    plan_key = models.CharField(max_length=100, blank=True)
    plan_name = models.CharField(max_length=200, blank=True)
    deny_code = models.CharField(max_length=40, blank=True)
    deny_at = models.DateTimeField(null=True, blank=True)
    invoice_url = models.CharField(max_length=1000, blank=True)  # where an unpaid one can be paid
    spend_limit = models.JSONField(null=True, blank=True)
    agreed = models.JSONField(null=True, blank=True)
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(deny_at__isnull=True, deny_code="")
                | (Q(deny_at__isnull=False) & ~Q(deny_code="")),
                name="standing_deny_code_and_time_go_together",
            )
        ]

    def __str__(self) -> str:
        return f"{self.customer_id} {self.plan_key} {self.deny_code}"


class Entitlement(models.Model):
    """A customer's right to a meter (metered) or a feature (boolean, static).

    `blended` is included instead in the window that ends at `blended_until`: terms changed in it.
    `curve`: what overage costs, as metering.domain.spending.Curve writes it. When the window that
    ends at `rolls_at` is over, up to `rollover` of its `rollable` units go on into the next one.
    """

    class Kind(models.TextChoices):
        METERED = "metered", "Metered"
        BOOLEAN = "boolean", "Boolean"
        STATIC = "static", "Static"

    class Over(models.TextChoices):
        DENY = "deny", "Deny"
        BILL = "bill", "Bill as overage"

    PREFIX: ClassVar[str] = "ent"
    pk = models.CompositePrimaryKey("customer_id", "id")
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="+")
    id = models.BigIntegerField(default=new_entity_id)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, null=True, related_name="+")
    feature = models.CharField(max_length=100, blank=True)  # boolean and static
    value = models.CharField(max_length=500, blank=True)  # static
    window = models.CharField(max_length=8, choices=Window.choices, default=Window.MONTH)
    anchor_at = models.DateTimeField()  # windows are counted from here
    included = models.BigIntegerField(default=0)
    blended = models.BigIntegerField(null=True)
    blended_until = models.DateTimeField(null=True)
    unlimited = models.BooleanField(default=False)
    over = models.CharField(max_length=4, choices=Over.choices, default=Over.DENY)
    overage_limit = models.BigIntegerField(null=True)
    curve = models.JSONField(null=True)
    rollover = models.BigIntegerField(default=0)
    rollable = models.BigIntegerField(default=0)
    rolls_at = models.DateTimeField(null=True)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True)
    source = models.CharField(max_length=60, blank=True)  # sub_…, or who gave it

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "meter", "window"],
                condition=Q(kind="metered"),
                name="entitlement_window_is_unique_per_meter",
            ),
            models.UniqueConstraint(
                fields=["customer", "meter"],
                condition=Q(kind="metered") & ~Q(window__in=["minute", "hour"]),
                name="entitlement_one_long_window_per_meter",
            ),
            models.UniqueConstraint(
                fields=["customer", "feature"],
                condition=~Q(kind="metered"),
                name="entitlement_feature_is_unique",
            ),
            models.CheckConstraint(
                condition=(Q(kind="metered") & Q(meter__isnull=False) & Q(feature=""))
                | (~Q(kind="metered") & Q(meter__isnull=True) & ~Q(feature="")),
                name="entitlement_names_a_meter_or_a_feature",
            ),
            models.CheckConstraint(
                condition=Q(included__gte=0)
                & (Q(overage_limit__isnull=True) | Q(overage_limit__gte=0)),
                name="entitlement_quantities_are_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(blended__isnull=True, blended_until__isnull=True)
                | Q(blended__gte=0, blended_until__isnull=False),
                name="entitlement_blended_is_of_a_window",
            ),
            models.CheckConstraint(
                condition=Q(rollover__gte=0, rollable__gte=0),
                name="entitlement_rollover_is_not_negative",
            ),
        ]
        indexes = [
            models.Index(
                fields=["rolls_at"],
                condition=Q(rollover__gt=0),
                name="entitlement_rolls_at",
            )
        ]

    def __str__(self) -> str:
        return f"{self.customer_id} {self.meter_id or self.feature} {self.window}"


class Grant(models.Model):
    """Quantity given beside what a plan includes; burned after it, by priority, then expiry."""

    PREFIX: ClassVar[str] = "grant"
    pk = models.CompositePrimaryKey("customer_id", "id")
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="+")
    id = models.BigIntegerField(default=new_entity_id)
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="+")
    quantity = models.BigIntegerField()
    used = models.BigIntegerField(default=0)
    held = models.BigIntegerField(default=0)
    priority = models.SmallIntegerField(default=10)
    effective_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)
    voided_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(quantity__gte=0)
                & Q(used__gte=0)
                & Q(held__gte=0)
                & Q(used__lte=F("quantity") - F("held")),
                name="grant_is_never_overdrawn",
            )
        ]

    def __str__(self) -> str:
        return f"{self.quantity} of {self.meter_id} for {self.customer_id}"


class Rollover(models.Model):
    """What was left of one window and went on into the next, which it is gone with.

    One per customer, meter and window: so nothing goes on twice. `grant_id`: the grant by which it
    can be used, null where nothing was left. Of `included` units at most `most` went on.
    """

    pk = models.CompositePrimaryKey("customer_id", "meter_id", "window", "start_at")
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="+")
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="+")
    window = models.CharField(max_length=8, choices=Window.choices)
    start_at = models.DateTimeField()
    end_at = models.DateTimeField()
    expires_at = models.DateTimeField()  # the end of the window after it
    included = models.BigIntegerField()
    most = models.BigIntegerField()
    grant_id = models.BigIntegerField(null=True)

    class Meta:
        indexes = [models.Index(fields=["expires_at"], name="rollover_expires_at")]

    def __str__(self) -> str:
        return f"{self.customer_id} {self.meter_id} {self.window} {self.start_at:%F}"


class Balance(models.Model):
    """Usage of one meter in one window of one customer. Quantities in the meter's unit.

    used = all usage of the window, of it `grant_used` was paid by grants; `held` and `grant_held`
    likewise for open holds. Overage is never stored: it is max(0, used - grant_used - included)
    of the entitlement, whatever the order in which things happened (metering.domain.burndown).
    `latest_at`: when the reading in `used` was taken, of meters that keep the latest.
    """

    pk = models.CompositePrimaryKey("customer_id", "meter_id", "window", "start_at")
    customer = models.ForeignKey(
        Customer, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="+")
    window = models.CharField(max_length=8, choices=Window.choices)
    start_at = models.DateTimeField()
    end_at = models.DateTimeField()
    used = models.BigIntegerField(default=0)
    grant_used = models.BigIntegerField(default=0)
    held = models.BigIntegerField(default=0)
    grant_held = models.BigIntegerField(default=0)
    latest_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(grant_used__gte=0) & Q(used__gte=F("grant_used")),
                name="balance_used_covers_its_parts",
            ),
            models.CheckConstraint(
                condition=Q(grant_held__gte=0) & Q(held__gte=F("grant_held")),
                name="balance_held_covers_its_parts",
            ),
            models.CheckConstraint(
                condition=Q(end_at__gt=F("start_at")), name="balance_window_has_a_length"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.customer_id} {self.meter_id} {self.window} {self.start_at:%F}"


class Offer(models.Model):
    """What a plan that is on sale would allow, as billing published it; for remedies.

    `terms`: {"period": "month", "meters": {"<meter id>": {"included", "unlimited", "over",
    "overage_limit", "window"}}, "features": {"<key>": "<value>"}}. "curve" is where overage has a
    price, and "also" has the same of the meter's further windows. Guarded by the catalogue's
    version.
    """

    plan_key = models.CharField(max_length=100)
    currency = models.CharField(max_length=3, default="usd")  # of those who may have it
    plan_name = models.CharField(max_length=200)
    rank = models.BigIntegerField(default=0)  # cheapest first
    terms = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["plan_key", "currency"], name="offer_plan_is_unique_per_currency"
            )
        ]

    def __str__(self) -> str:
        return f"{self.plan_key} in {self.currency}"
