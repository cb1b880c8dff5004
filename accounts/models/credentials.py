"""Keys: of customers, gateways and operators. Only digests are kept."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from accounts.models.customers import Customer
from accounts.models.entities import Entity
from accounts.models.gateways import Gateway


class Credential(Entity):
    """What all keys share: `digest` is the key's SHA-256, `prefix` is what people are shown."""

    name = models.CharField(max_length=200)
    prefix = models.CharField(max_length=20)
    digest = models.BinaryField(max_length=32, unique=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True
        constraints = [
            models.CheckConstraint(
                condition=Q(expires_at__isnull=True) | Q(expires_at__gte=models.F("created_at")),
                name="%(class)s_expires_after_creation",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class ApiKey(Credential):
    """A customer's credential at a gateway; guarded by the customer's version."""

    PREFIX: ClassVar[str] = "key"
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="api_keys")
    rotated_from = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="rotated_to"
    )


class GatewayKey(Credential):
    """A gateway's own credential; guarded by the catalogue's version."""

    PREFIX: ClassVar[str] = "gwk"
    gateway = models.ForeignKey(Gateway, on_delete=models.CASCADE, related_name="keys")


class OperatorKey(Credential):
    """A credential for management and reports, with scopes (accounts/domain/scopes.py)."""

    PREFIX: ClassVar[str] = "opk"
    scopes = ArrayField(models.CharField(max_length=40))
