"""What gateways get wrong when they ask."""

from __future__ import annotations

from django.db import models

from metering.domain.gateway_faults import Advice, advice_on


class GatewayFault(models.Model):
    """A fault of a gateway's set-up: how often it asked so at /authorize, and the last time.

    Written by the gate (metering/sql/note_gateway_faults.sql), at most once a minute by a process
    for a gateway and a code: `count` may lag by that. Forgotten 30 days after it was last seen. So
    there are as many rows as gateways have faults, and none grows with the requests.
    """

    id = models.BigAutoField(primary_key=True)
    gateway = models.CharField(max_length=100, blank=True)  # its name, which stays; "": unknown
    code = models.CharField("Fault", max_length=40)  # of a problem
    count = models.BigIntegerField("Times")
    first_at = models.DateTimeField("First seen")
    last_at = models.DateTimeField("Last seen")
    detail = models.CharField(max_length=500)  # of the last one; keys in it are cut
    param = models.CharField(max_length=100, blank=True)  # at fault the last time

    class Meta:
        verbose_name = "gateway that asks wrongly"
        verbose_name_plural = "gateways that ask wrongly"
        constraints = [
            models.UniqueConstraint(fields=["gateway", "code"], name="gatewayfault_is_kept_once")
        ]

    def __str__(self) -> str:
        return f"{self.gateway or 'unknown'}: {self.code}"

    @property
    def advice(self) -> Advice:
        """What it means, and what an operator does."""
        return advice_on(self.code)
