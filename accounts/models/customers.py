"""Whom we bill, and the version that guards all of a customer's metering state."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from accounts.models.entities import Entity


class Customer(Entity):
    """Whom we bill. `external_id` is the operator's own name for it.

    Whoever was erased stays suspended under its id, and is nobody to the gate.
    """

    PREFIX: ClassVar[str] = "cus"
    external_id = models.CharField(max_length=200, unique=True, null=True, blank=True)
    name = models.CharField(max_length=200)
    email = models.EmailField(blank=True)
    currency = models.CharField(max_length=3, default="usd")
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField()
    suspended_at = models.DateTimeField(null=True, blank=True)
    erased_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(currency__regex=r"^[a-z]{3}$"),
                name="customer_currency_is_lowercase_iso",
            ),
            models.CheckConstraint(
                condition=Q(external_id__isnull=True) | ~Q(external_id=""),
                name="customer_external_id_is_not_empty",
            ),
        ]

    def __str__(self) -> str:
        return self.name or self.public_id


class CustomerVersion(models.Model):
    """One narrow row per customer; whoever changes its metering state raises `version` with it.

    The gate decides over copies and writes only where the version is still the one it decided on.
    """

    customer = models.OneToOneField(
        Customer, on_delete=models.CASCADE, primary_key=True, related_name="version_row"
    )
    version = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.customer_id} at {self.version}"


class CatalogueVersion(models.Model):
    """The single row (id 1) that guards what all customers share: meters, gateways, offers."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    version = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="catalogueversion_is_one_row")
        ]

    def __str__(self) -> str:
        return str(self.version)
