"""Events that were refused, kept until what they were refused for is mended."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from accounts.domain import ids
from accounts.models import Customer


class QuarantinedEvent(models.Model):
    """An event as it was reported, and why it could not be counted the last time it was tried.

    Written by the gate (metering/sql/quarantine_events.sql), at most FAREBOX_QUARANTINE_EVENTS
    rows. `digest` is of subject, source and id: a repeat lands on the same row. `customer` is
    known where the event named it by a key, which is kept nowhere; `subject` is empty then.
    """

    PREFIX: ClassVar[str] = "qua"
    id = models.BigAutoField(primary_key=True)
    digest = models.UUIDField(unique=True)
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, null=True, related_name="+")
    subject = models.CharField(max_length=200, blank=True)
    source = models.CharField(max_length=200)
    external_id = models.CharField(max_length=255)
    type = models.CharField(max_length=200)
    occurred_at = models.DateTimeField(null=True)  # null: when it was received
    properties = models.JSONField()
    code = models.CharField(max_length=40)
    detail = models.CharField(max_length=500)
    gateway_id = models.BigIntegerField(null=True)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    times = models.PositiveIntegerField(default=1)  # how often it was refused

    def __str__(self) -> str:
        return f"{self.source} {self.external_id}: {self.code}"

    @property
    def public_id(self) -> str:
        """The id as the API shows it."""
        return ids.encode(self.PREFIX, self.id)
