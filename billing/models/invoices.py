"""What a customer owes: invoices, lines, credit notes, payment attempts."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from accounts.models import Customer, Entity
from billing.models.catalogue import PlanVersion
from billing.models.subscriptions import Subscription
from metering.models import Meter


class InvoiceCounter(models.Model):
    """The next invoice number of a legal entity: without gaps, so taken under a row lock."""

    prefix = models.CharField(max_length=20, primary_key=True)
    last_number = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.prefix}-{self.last_number}"


class Invoice(Entity):
    """One bill; lines and total never change once it has left draft (trigger).

    `total` is the sum of the lines. Where Stripe computes tax, `tax_added` comes on top of it and
    `tax_included` is part of it; both are written once, as Stripe finalizes it (trigger).
    `push` says how far it has come to Stripe, apart from what people call its status. One with a
    `wallet` is a top-up: what is paid of it is in that wallet, and nobody owes it.
    """

    class Status(models.TextChoices):
        DRAFT = "draft", "Draft"
        OPEN = "open", "Open"
        PAID = "paid", "Paid"
        VOID = "void", "Void"
        UNCOLLECTIBLE = "uncollectible", "Uncollectible"

    class Push(models.TextChoices):
        NONE = "none", "Not collected by Stripe"
        PENDING = "pending", "Waiting to be pushed"
        PUSHED = "pushed", "With Stripe"
        CARRIED = "carried", "Below the minimum: carried to the next invoice"
        QUARANTINED = "quarantined", "Differs from Stripe: waits for an operator"

    PREFIX: ClassVar[str] = "inv"
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="invoices")
    subscription = models.ForeignKey(
        Subscription, on_delete=models.PROTECT, null=True, related_name="invoices"
    )
    wallet = models.ForeignKey(
        "billing.Wallet", on_delete=models.PROTECT, null=True, related_name="top_ups"
    )
    automatic = models.BooleanField(default=False)  # a top-up that nobody asked for at the moment
    # Names the request that asked for a top-up, and its repeats.
    request_key = models.CharField(max_length=64, null=True, editable=False)  # noqa: DJ001  (unique where set)
    number = models.CharField(max_length=40, unique=True, null=True)  # noqa: DJ001  (unique where set)
    status = models.CharField(max_length=13, choices=Status.choices, default=Status.DRAFT)
    push = models.CharField(max_length=11, choices=Push.choices, default=Push.NONE)
    currency = models.CharField(max_length=3)
    period_start_at = models.DateTimeField()
    period_end_at = models.DateTimeField()
    # What rating needs to know of the period, frozen when it was closed (queries/rated_periods.py).
    basis = models.JSONField(default=dict)
    # Who bills and who is billed, frozen as it is issued; the buyer goes when it is erased.
    seller = models.JSONField(default=dict, blank=True)
    buyer = models.JSONField(default=dict, blank=True)
    total = models.BigIntegerField(default=0)
    tax_added = models.BigIntegerField(default=0, db_default=0)
    tax_included = models.BigIntegerField(default=0, db_default=0)
    taxes = models.JSONField(  # domain/taxes.py
        default=list, db_default=models.Value([], models.JSONField()), blank=True
    )
    taxed_at = models.DateTimeField(null=True)
    tax_status = models.CharField(
        max_length=50, blank=True, db_default=""
    )  # Stripe's word; empty: not asked
    amount_paid = models.BigIntegerField(default=0)
    created_at = models.DateTimeField()
    issued_at = models.DateTimeField(null=True)
    due_at = models.DateTimeField(null=True)
    paid_at = models.DateTimeField(null=True)
    voided_at = models.DateTimeField(null=True)
    carried_to = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, related_name="carried_from"
    )
    stripe_invoice = models.CharField(max_length=255, unique=True, null=True)  # noqa: DJ001  (unique where set)
    hosted_url = models.CharField(max_length=1000, blank=True)
    attempt_count = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)  # when Stripe tries again
    failure_code = models.CharField(max_length=100, blank=True)
    swept_at = models.DateTimeField(null=True)  # when it was last read again unasked
    next_push_at = models.DateTimeField(null=True)  # when the push goes on; null = not pending
    push_problem = models.CharField(max_length=1000, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["subscription", "period_start_at"],
                condition=~Q(status="void"),
                name="invoice_one_per_subscription_period",
            ),
            models.UniqueConstraint(
                fields=["wallet"],
                condition=Q(status__in=["draft", "open"]),
                name="invoice_one_top_up_under_way",
            ),
            models.UniqueConstraint(
                fields=["customer", "request_key"],
                condition=Q(request_key__isnull=False),
                name="invoice_one_top_up_per_request",
            ),
            models.CheckConstraint(
                condition=Q(wallet__isnull=True, automatic=False)
                | Q(wallet__isnull=False, subscription__isnull=True),
                name="invoice_top_up_bills_no_period",
            ),
            models.CheckConstraint(
                condition=Q(status="draft", number__isnull=True)
                | (~Q(status="draft") & Q(number__isnull=False)),
                name="invoice_issued_has_a_number",
            ),
            models.CheckConstraint(
                condition=Q(amount_paid__gte=0), name="invoice_amount_paid_is_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(tax_added=0, tax_included=0)
                | Q(
                    taxed_at__isnull=False,
                    tax_added__gte=0,
                    tax_included__gte=0,
                    tax_included__lte=F("total"),
                ),
                name="invoice_tax_is_of_its_total",
            ),
            models.CheckConstraint(
                condition=Q(taxed_at__isnull=True) | ~Q(status="draft"),
                name="invoice_taxed_is_issued",
            ),
        ]
        indexes = [
            models.Index(fields=["next_push_at"], condition=Q(push="pending"), name="invoice_push"),
            models.Index(fields=["customer", "-period_start_at"], name="invoice_customer"),
            # Those that wait to be issued, in the order in which they are.
            models.Index(
                fields=["period_end_at", "id"], condition=Q(status="draft"), name="invoice_draft"
            ),
        ]

    def __str__(self) -> str:
        return self.number or self.public_id

    @property
    def amount_due(self) -> int:
        """What is still to be paid, in minor units; what was carried on is due there."""
        if self.carried_to_id is not None:
            return 0
        open_statuses = (self.Status.OPEN, self.Status.UNCOLLECTIBLE)
        due = max(self.total_with_tax - self.amount_paid, 0)
        return due if self.status in open_statuses else 0

    @property
    def total_with_tax(self) -> int:
        """What the customer pays for it in all, in minor units."""
        return self.total + self.tax_added

    @property
    def tax(self) -> int:
        """All tax that Stripe computed for it, in minor units."""
        return self.tax_added + self.tax_included


class InvoiceLine(Entity):
    """One line, rounded once. `detail` explains it tier by tier."""

    class Kind(models.TextChoices):
        FEE = "fee", "Fee"
        USAGE = "usage", "Usage"
        ADJUSTMENT = "adjustment", "Adjustment"
        MINIMUM = "minimum", "Minimum"
        DISCOUNT = "discount", "Discount"
        PRORATION = "proration", "Proration"
        CREDIT = "credit", "Credit"
        TOP_UP = "top_up", "Top-up"

    PREFIX: ClassVar[str] = "line"
    invoice = models.ForeignKey(Invoice, on_delete=models.CASCADE, related_name="lines")
    position = models.PositiveSmallIntegerField()
    kind = models.CharField(max_length=10, choices=Kind.choices)
    description = models.CharField(max_length=500)
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, null=True)
    version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, null=True)
    quantity = models.BigIntegerField(null=True)
    amount = models.BigIntegerField()
    start_at = models.DateTimeField()
    end_at = models.DateTimeField()
    detail = models.JSONField(default=dict)
    stripe_line = models.CharField(max_length=255, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["invoice", "position"], name="invoiceline_position_is_unique"
            )
        ]

    def __str__(self) -> str:
        return self.description


class BilledUsage(models.Model):
    """What usage of a closed span was billed so far; later events make an adjustment of the rest.

    `amount` is in minor units, the sum of the usage line and all its adjustments.
    """

    subscription = models.ForeignKey(Subscription, on_delete=models.CASCADE, related_name="billed")
    version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT)
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT)
    period_start_at = models.DateTimeField()
    start_at = models.DateTimeField()
    end_at = models.DateTimeField()
    quantity = models.BigIntegerField()
    amount = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["subscription", "meter", "start_at"], name="billedusage_span_is_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.subscription_id} {self.meter_id} {self.start_at:%F}"


class CreditNote(Entity):
    """Takes back part or all of an issued invoice."""

    PREFIX: ClassVar[str] = "cn"
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="credit_notes")
    number = models.CharField(max_length=40, unique=True)
    amount = models.BigIntegerField()
    reason = models.CharField(max_length=500)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="creditnote_amount_is_positive")
        ]

    def __str__(self) -> str:
        return self.number


class PaymentAttempt(models.Model):
    """One try to collect an invoice, as Stripe reported it."""

    class Outcome(models.TextChoices):
        PAID = "paid", "Paid"
        DECLINED = "declined", "Declined"
        ACTION_REQUIRED = "action_required", "Action required"

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="attempts")
    number = models.PositiveIntegerField()  # Stripe's attempt_count
    outcome = models.CharField(max_length=15, choices=Outcome.choices)
    amount = models.BigIntegerField()
    code = models.CharField(max_length=100, blank=True)
    reference = models.CharField(max_length=255, blank=True)  # pi_…
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["invoice", "number", "outcome"], name="paymentattempt_number_is_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.invoice} {self.number} {self.outcome}"
