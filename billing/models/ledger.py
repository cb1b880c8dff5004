"""Money that moved, as double entry; the entries of a posting sum to zero (deferred trigger)."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

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
        constraints = [
            models.CheckConstraint(condition=~Q(amount=0), name="ledgerentry_amount_is_not_zero")
        ]
        indexes = [models.Index(fields=["account", "currency"], name="ledgerentry_account")]

    def __str__(self) -> str:
        return f"{self.account} {self.amount} {self.currency}"
