"""The agreement with a customer and its clock."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from accounts.models import Customer, Entity
from billing.models.catalogue import PlanVersion


class Subscription(Entity):
    """A customer's agreement to a plan version; at most one that is not canceled per customer."""

    class Status(models.TextChoices):
        TRIALING = "trialing", "Trialing"
        ACTIVE = "active", "Active"
        PAST_DUE = "past_due", "Past due"
        UNPAID = "unpaid", "Unpaid"
        PAUSED = "paused", "Paused"
        INCOMPLETE = "incomplete", "Incomplete"
        CANCELED = "canceled", "Canceled"

    class Collection(models.TextChoices):
        STRIPE = "stripe", "Charged through Stripe"
        MANUAL = "manual", "Issued here, paid outside"

    PREFIX: ClassVar[str] = "sub"
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="subscriptions")
    version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="+")
    pending_version = models.ForeignKey(  # takes over when the current period ends
        PlanVersion, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    seats = models.PositiveIntegerField(default=1)
    pending_seats = models.PositiveIntegerField(null=True, blank=True)  # from the next period on
    status = models.CharField(max_length=10, choices=Status.choices)
    collection = models.CharField(
        max_length=6, choices=Collection.choices, default=Collection.STRIPE
    )
    start_at = models.DateTimeField()
    anchor_at = models.DateTimeField()
    current_start_at = models.DateTimeField()
    current_end_at = models.DateTimeField()
    # Up to where interim invoices have billed the usage of the current period; null: none has.
    billed_until_at = models.DateTimeField(null=True, blank=True)
    billing_threshold = models.BigIntegerField(null=True, blank=True)  # instead of the plan's
    threshold_checked_at = models.DateTimeField(null=True, blank=True)
    # The customer's version at which the usage was last below the threshold.
    threshold_seen = models.BigIntegerField(null=True, blank=True)
    trial_end_at = models.DateTimeField(null=True, blank=True)
    past_due_at = models.DateTimeField(null=True, blank=True)
    grace_ends_at = models.DateTimeField(null=True, blank=True)
    paused_at = models.DateTimeField(null=True, blank=True)
    cancel_at = models.DateTimeField(null=True, blank=True)  # a cancellation that is to come
    canceled_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["customer"],
                condition=~Q(status="canceled"),
                name="subscription_one_at_a_time_per_customer",
            ),
            models.CheckConstraint(
                condition=Q(current_end_at__gt=F("current_start_at")),
                name="subscription_period_has_a_length",
            ),
            models.CheckConstraint(
                condition=Q(billed_until_at__isnull=True)
                | Q(
                    billed_until_at__gt=F("current_start_at"),
                    billed_until_at__lt=F("current_end_at"),
                ),
                name="subscription_is_billed_within_its_period",
            ),
            models.CheckConstraint(
                condition=Q(billing_threshold__isnull=True) | Q(billing_threshold__gt=0),
                name="subscription_billing_threshold_is_positive",
            ),
        ]
        indexes = [
            models.Index(
                fields=["current_end_at", "id"],
                condition=~Q(status="canceled"),
                name="subscription_period_end",
            )
        ]

    def __str__(self) -> str:
        return f"{self.customer} on {self.version}"


class SubscriptionPhase(models.Model):
    """Under which version, with how many seats, a subscription stood when: [start_at, end_at),
    end null = now.

    Usage before a change is rated by the version it happened under.
    """

    subscription = models.ForeignKey(Subscription, on_delete=models.CASCADE, related_name="phases")
    version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="+")
    seats = models.PositiveIntegerField(default=1)
    start_at = models.DateTimeField()
    end_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["subscription"],
                condition=Q(end_at__isnull=True),
                name="subscriptionphase_one_is_current",
            ),
            models.UniqueConstraint(
                fields=["subscription", "start_at"], name="subscriptionphase_start_is_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.version} from {self.start_at:%F}"
