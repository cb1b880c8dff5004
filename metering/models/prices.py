"""What tokens cost the operator, or should cost a customer: price tables in versions.

Nothing here is ever changed: a version is written whole as a draft, and activating it sets the
time from which it stands. Guarded by the catalogue's version.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from accounts.domain import ids
from metering.domain.prices import PLACES, TOKEN_CLASSES, price_text


class PriceTable(models.Model):
    """Prices per token by model and token class, in one currency, for meters that sum costs."""

    PREFIX: ClassVar[str] = "ptab"
    id = models.AutoField(primary_key=True)
    key = models.CharField(max_length=100, unique=True)
    name = models.CharField(max_length=200, blank=True)
    currency = models.CharField(max_length=3, default="usd")
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.key

    @property
    def public_id(self) -> str:
        """The id as the API shows it."""
        return ids.encode(self.PREFIX, self.id)


class PriceTableVersion(models.Model):
    """All prices of a table as they stand from `effective_at` on; null: a draft.

    `sha256` is of the data it was made from, `source` says where that came from.
    """

    table = models.ForeignKey(PriceTable, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    source = models.CharField(max_length=200, blank=True)
    sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=60)
    effective_at = models.DateTimeField(null=True, blank=True)
    activated_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["table", "number"], name="pricetableversion_number"),
            models.UniqueConstraint(
                fields=["table", "effective_at"], name="pricetableversion_begins_alone"
            ),
            models.CheckConstraint(
                condition=Q(effective_at__isnull=True, activated_at__isnull=True)
                | Q(effective_at__isnull=False, activated_at__isnull=False),
                name="pricetableversion_is_draft_or_active",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.table_id} v{self.number}"

    @property
    def status(self) -> str:
        """`draft` until a time is set from which it stands, then `active`."""
        return "draft" if self.effective_at is None else "active"


class TokenPrice(models.Model):
    """The price of one token of a class for a model, in the main unit of the table's currency.

    `model` is a name, a beginning of names followed by `*`, or `*` for all others.
    """

    pk = models.CompositePrimaryKey("version_id", "model", "token_class")
    version = models.ForeignKey(PriceTableVersion, on_delete=models.CASCADE, related_name="prices")
    model = models.CharField(max_length=200)
    token_class = models.CharField(max_length=20, choices=[(name, name) for name in TOKEN_CLASSES])
    price = models.DecimalField(max_digits=PLACES + 7, decimal_places=PLACES)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(price__gte=0), name="tokenprice_is_not_negative")
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.token_class} {price_text(self.price)}"
