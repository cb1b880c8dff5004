"""Money that moved, as double entry; the entries of a posting sum to zero (deferred trigger)."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from accounts.models import Customer, Entity
from billing.models.invoices import Invoice


class Wallet(Entity):
    """Money a customer paid ahead, in major units of its currency; never below zero."""

    PREFIX: ClassVar[str] = "wal"
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="wallets")
    currency = models.CharField(max_length=3)
    balance = models.DecimalField(max_digits=30, decimal_places=12, default=0)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "currency"], name="wallet_one_per_customer_and_currency"
            ),
            models.CheckConstraint(condition=Q(balance__gte=0), name="wallet_is_never_overdrawn"),
        ]

    def __str__(self) -> str:
        return f"{self.customer} {self.currency}"


class AutoTopUp(models.Model):
    """When a wallet is topped up by itself; amounts in minor units of its currency.

    While it is suppressed nothing is tried: the top-up `suppressed_by` was not paid.
    """

    wallet = models.OneToOneField(
        Wallet, on_delete=models.CASCADE, primary_key=True, related_name="auto_top_up"
    )
    enabled = models.BooleanField(default=True)
    threshold = models.BigIntegerField()
    amount = models.BigIntegerField()
    monthly_cap = models.BigIntegerField()
    suppressed_at = models.DateTimeField(null=True, blank=True)
    suppressed_by = models.ForeignKey(
        Invoice, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    checked_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(threshold__gt=0, amount__gt=0, monthly_cap__gte=F("amount")),
                name="autotopup_terms_hold_together",
            ),
            models.CheckConstraint(
                condition=Q(suppressed_at__isnull=True, suppressed_by__isnull=True)
                | Q(suppressed_at__isnull=False, suppressed_by__isnull=False),
                name="autotopup_suppression_has_a_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.wallet}: {self.amount} below {self.threshold}"


class Credit(Entity):
    """Money that a customer need not pay, in minor units: used by invoices, once each cent.

    Promotional: given; paid: owed to the customer, because it was paid for or given back. Left is
    `amount - used - expired`; `expires_at`: the end of the last period it can be used for.
    """

    class Kind(models.TextChoices):
        PROMOTIONAL = "promotional", "Promotional"
        PAID = "paid", "Paid"

    PREFIX: ClassVar[str] = "cred"
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="credits")
    currency = models.CharField(max_length=3)
    kind = models.CharField(max_length=11, choices=Kind.choices)
    amount = models.BigIntegerField()
    used = models.BigIntegerField(default=0)
    expired = models.BigIntegerField(default=0)
    priority = models.SmallIntegerField()  # lower is used first
    reason = models.CharField(max_length=500, blank=True)
    granted_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(amount__gt=0, used__gte=0, expired__gte=0)
                & Q(amount__gte=F("used") + F("expired")),
                name="credit_is_used_once",
            )
        ]
        indexes = [
            models.Index(
                fields=["customer", "currency"],
                condition=Q(amount__gt=F("used") + F("expired")),
                name="credit_left",
            ),
            models.Index(
                fields=["expires_at"],
                condition=Q(amount__gt=F("used") + F("expired"), expires_at__isnull=False),
                name="credit_expiring",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.left} of {self.amount} {self.currency} for {self.customer_id}"

    @property
    def left(self) -> int:
        """What can still be used, in minor units."""
        return self.amount - self.used - self.expired


class CreditUse(models.Model):
    """What an invoice used of a credit."""

    credit = models.ForeignKey(Credit, on_delete=models.PROTECT, related_name="uses")
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="credit_uses")
    amount = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["credit", "invoice"], name="credituse_once_per_invoice"
            ),
            models.CheckConstraint(condition=Q(amount__gt=0), name="credituse_is_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.amount} of {self.credit_id} for {self.invoice_id}"


class LedgerPosting(Entity):
    """One movement of money; `key` makes posting it twice impossible."""

    PREFIX: ClassVar[str] = "led"
    key = models.CharField(max_length=200, unique=True)  # invoice_issued:inv_…, payment:inv_…:pi_…
    kind = models.CharField(max_length=40)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    invoice = models.ForeignKey(
        Invoice, on_delete=models.PROTECT, null=True, related_name="postings"
    )
    occurred_at = models.DateTimeField()
    created_at = models.DateTimeField()
    note = models.CharField(max_length=500, blank=True)

    def __str__(self) -> str:
        return self.key


class LedgerEntry(models.Model):
    """One side of a posting: positive = debit, negative = credit, in minor units."""

    posting = models.ForeignKey(LedgerPosting, on_delete=models.PROTECT, related_name="entries")
    account = models.CharField(max_length=40)
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)

    class Meta:
        verbose_name_plural = "ledger entries"
        constraints = [
            models.CheckConstraint(condition=~Q(amount=0), name="ledgerentry_amount_is_not_zero")
        ]
        indexes = [models.Index(fields=["account", "currency"], name="ledgerentry_account")]

    def __str__(self) -> str:
        return f"{self.account} {self.amount} {self.currency}"
