"""Who changed what, and the idempotency of the management API."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from accounts.models.customers import Customer
from accounts.models.entities import Entity


class AuditEntry(Entity):
    """One change made by a person or a key; never changed afterwards."""

    PREFIX: ClassVar[str] = "aud"
    at = models.DateTimeField()
    actor = models.CharField(max_length=100)  # mem_…, opk_…, "system", "stripe"
    action = models.CharField(max_length=100)  # customer.created, api_key.revoked, …
    subject = models.CharField(max_length=100)  # public id of what was changed
    customer = models.ForeignKey(
        Customer, on_delete=models.SET_NULL, null=True, blank=True, related_name="audit_entries"
    )
    changes = models.JSONField(default=dict)
    request_id = models.CharField(max_length=200, blank=True)

    class Meta:
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(fields=["customer", "-at"], name="auditentry_customer_at"),
            models.Index(fields=["subject", "-at"], name="auditentry_subject_at"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"


class IdempotentRequest(models.Model):
    """The answer kept for an `Idempotency-Key` of one caller; `status` null while in flight."""

    caller = models.CharField(max_length=100)
    key = models.CharField(max_length=255)
    fingerprint = models.BinaryField(max_length=32)
    created_at = models.DateTimeField()
    status = models.PositiveSmallIntegerField(null=True)
    body = models.JSONField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["caller", "key"], name="idempotentrequest_key_is_unique_per_caller"
            )
        ]
        indexes = [models.Index(fields=["created_at"], name="idempotentrequest_created_at")]

    def __str__(self) -> str:
        return f"{self.caller} {self.key}"
