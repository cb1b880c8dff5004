"""The audit: who changed what, newest first."""

from __future__ import annotations

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.describing import describe
from accounts.api.fields import CustomerField, InstantField, PublicIdField, TextField
from accounts.api.serializing import StrictSerializer
from accounts.api.views import ManagementView
from accounts.domain.scopes import ADMIN
from accounts.models import AuditEntry


class AuditEntryShape(serializers.Serializer[AuditEntry]):
    """One change made by a person or a key."""

    id = PublicIdField(AuditEntry.PREFIX, source="pk")
    at = InstantField()
    actor = serializers.CharField()
    action = serializers.CharField()
    subject = serializers.CharField()
    customer = CustomerField(source="customer_id", allow_null=True)
    changes = serializers.DictField()
    request_id = serializers.CharField()


class AuditQuery(StrictSerializer):
    """Which entries to list."""

    customer = CustomerField(required=False)
    subject = TextField(required=False)
    actor = TextField(required=False)
    action = TextField(required=False)


class AuditEntries(ManagementView):
    """All audit entries."""

    scopes = {"GET": ADMIN}

    @describe("List audit entries", answer=AuditEntryShape, query=AuditQuery, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List what was changed, newest first."""
        found = AuditEntry.objects.filter(**self.query(AuditQuery))
        return self.page(found, AuditEntryShape, ordering=("-at", "-id"))
