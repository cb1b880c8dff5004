"""Who calls us: gateways, and the routes that turn a forwarded request into a check."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from accounts.models.entities import Entity


class Gateway(Entity):
    """A caller of ours; its name is the default source of the events it reports."""

    PREFIX: ClassVar[str] = "gw"
    name = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=40, default="other")
    created_at = models.DateTimeField()
    disabled_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name


class GatewayRoute(models.Model):
    """Method and path pattern -> meter, quantity, mode; the first that matches wins."""

    class Mode(models.TextChoices):
        PEEK = "peek", "Peek"
        CONSUME = "consume", "Consume"
        HOLD = "hold", "Hold"

    gateway = models.ForeignKey(Gateway, on_delete=models.CASCADE, related_name="routes")
    position = models.PositiveSmallIntegerField()
    method = models.CharField(max_length=16, default="*")
    path = models.CharField(max_length=500)
    meter = models.CharField(max_length=100)
    quantity = models.BigIntegerField(default=1)
    mode = models.CharField(max_length=8, choices=Mode.choices, default=Mode.CONSUME)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["gateway", "position"], name="gatewayroute_position_is_unique"
            ),
            models.CheckConstraint(
                condition=Q(quantity__gte=0), name="gatewayroute_quantity_is_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"
