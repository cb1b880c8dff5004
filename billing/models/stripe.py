"""What stands between us and Stripe: references, the step log, the inbox."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from accounts.models import Customer, Entity
from billing.models.catalogue import PlanVersion
from billing.models.invoices import Invoice


class StripeCustomer(models.Model):
    """A customer's counterpart at Stripe and the payment method it would be charged on."""

    customer = models.OneToOneField(
        Customer, on_delete=models.PROTECT, primary_key=True, related_name="stripe"
    )
    stripe_customer = models.CharField(max_length=255, unique=True)
    payment_method = models.CharField(max_length=255, blank=True)  # empty: none that can be charged
    card_brand = models.CharField(max_length=40, blank=True)
    card_last4 = models.CharField(max_length=4, blank=True)
    card_expires_on = models.DateField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)
    # What Stripe was told last, so that a change here is seen and told.
    told_name = models.CharField(max_length=200, blank=True)
    told_email = models.CharField(max_length=254, blank=True)
    # As of when Stripe was told the billing details; null: never.
    told_details_at = models.DateTimeField(null=True, blank=True)
    # Nothing is charged off-session from here on; null = collected as usual.
    held_at = models.DateTimeField(null=True, blank=True)
    held_reason = models.CharField(max_length=300, blank=True)
    updated_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.stripe_customer


class Dispute(Entity):
    """A payment that the customer's bank doubts: a dispute, or a warning that one may come.

    What it did to the money is in the ledger; this is how it stands.
    """

    class Kind(models.TextChoices):
        DISPUTE = "dispute", "Dispute"
        FRAUD_WARNING = "fraud_warning", "Early fraud warning"

    PREFIX: ClassVar[str] = "dsp"
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="disputes")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(max_length=13, choices=Kind.choices)
    reference = models.CharField(max_length=255, unique=True)  # du_… or issfr_…
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    reason = models.CharField(max_length=100, blank=True)
    status = models.CharField(max_length=40)  # Stripe's word
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)  # decided; nothing changes afterwards

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="dispute_amount_is_positive")
        ]
        indexes = [
            models.Index(
                fields=["customer"], condition=Q(closed_at__isnull=True), name="dispute_open"
            )
        ]

    def __str__(self) -> str:
        return self.reference


class CheckoutSession(Entity):
    """A visit to Stripe Checkout that we began: to start or change to a plan, or to set a card."""

    class Status(models.TextChoices):
        PENDING = "pending", "Not yet made at Stripe"
        OPEN = "open", "Open"
        COMPLETE = "complete", "Complete"
        EXPIRED = "expired", "Expired"

    PREFIX: ClassVar[str] = "chk"
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    version = models.ForeignKey(  # what it leads to; null = only the payment method changes
        PlanVersion, on_delete=models.PROTECT, null=True, related_name="+"
    )
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.PENDING)
    stripe_session = models.CharField(max_length=255, unique=True, null=True)  # noqa: DJ001  (unique where set)
    url = models.CharField(max_length=2000, blank=True)
    created_at = models.DateTimeField()
    completed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.public_id


class StripeStep(Entity):
    """One call to Stripe, committed before it is sent: same key and same bytes on every retry.

    A new `attempt` (a new key) is made only after a stored terminal answer or a reconciliation.
    """

    class State(models.TextChoices):
        PENDING = "pending", "To be sent, or sent without an answer yet"
        DONE = "done", "Done"
        DECLINED = "declined", "Answered: the payment was declined"
        ABANDONED = "abandoned", "Given up: reconciled, a new attempt follows"
        QUARANTINED = "quarantined", "Refused or different: waits for an operator"

    PREFIX: ClassVar[str] = "step"
    subject = models.CharField(max_length=60)  # public id of what it is for: inv_…, cus_…, chk_…
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, null=True, related_name="steps")
    kind = models.CharField(max_length=30)
    chunk = models.PositiveSmallIntegerField(default=0)
    attempt = models.PositiveSmallIntegerField(default=1)
    key = models.CharField(max_length=255, unique=True)
    request = models.JSONField()
    state = models.CharField(max_length=11, choices=State.choices, default=State.PENDING)
    created_at = models.DateTimeField()
    first_sent_at = models.DateTimeField(null=True)
    last_sent_at = models.DateTimeField(null=True)
    sends = models.PositiveIntegerField(default=0)
    answered_at = models.DateTimeField(null=True)
    http_status = models.PositiveSmallIntegerField(null=True)
    answer = models.JSONField(null=True)
    error = models.CharField(max_length=1000, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["subject", "kind", "chunk", "attempt"],
                name="stripestep_attempt_is_unique",
            )
        ]

    def __str__(self) -> str:
        return self.key


class Reconciliation(Entity):
    """What a comparison of a span with Stripe found; `differences` as the command prints them."""

    PREFIX: ClassVar[str] = "rec"
    start_at = models.DateTimeField()
    end_at = models.DateTimeField()
    made_at = models.DateTimeField()
    counts = models.JSONField(default=dict)  # what was compared, by kind
    differences = models.JSONField(default=list)
    differing = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.start_at:%F %H:%M} to {self.end_at:%F %H:%M}"


class StripeEvent(models.Model):
    """The inbox: each event once, applied later from the re-read object."""

    id = models.CharField(max_length=255, primary_key=True)
    type = models.CharField(max_length=100)
    api_version = models.CharField(max_length=40, blank=True)
    object_id = models.CharField(max_length=255, blank=True)
    payload = models.JSONField()
    created_at = models.DateTimeField()  # Stripe's
    received_at = models.DateTimeField()
    processed_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=200, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                condition=Q(processed_at__isnull=True),
                name="stripeevent_unprocessed",
            )
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"
