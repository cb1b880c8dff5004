"""Operator keys: issue, list, rotate, revoke. Only `admin` may."""

from __future__ import annotations

from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.api_keys import Rotation
from accounts.api.describing import describe
from accounts.api.fields import InstantField, PublicIdField, TextField
from accounts.api.serializing import NoBody, StrictSerializer
from accounts.api.views import ManagementView, number_of
from accounts.domain.scopes import ADMIN, SCOPES
from accounts.models import OperatorKey
from accounts.operations import keys


class OperatorKeyShape(serializers.Serializer[OperatorKey]):
    """An operator key as it is answered: never the key itself."""

    id = PublicIdField(OperatorKey.PREFIX, source="pk")
    name = serializers.CharField()
    scopes = serializers.ListField(child=serializers.ChoiceField(list(SCOPES)))
    prefix = serializers.CharField()
    created_at = InstantField()
    expires_at = InstantField(allow_null=True)
    revoked_at = InstantField(allow_null=True)


class NewOperatorKeyShape(OperatorKeyShape):
    """A new operator key with `key`, which is shown this once."""

    key = serializers.CharField(help_text="Shown this once; only its digest is kept.")


class NewOperatorKey(StrictSerializer):
    """An operator key to be issued."""

    name = TextField(max_length=200)
    scopes = serializers.ListField(child=serializers.ChoiceField(list(SCOPES)), min_length=1)
    expires_at = InstantField(allow_null=True, required=False)


class OperatorKeys(ManagementView):
    """All operator keys."""

    scopes = {"GET": ADMIN, "POST": ADMIN}

    @describe("List operator keys", answer=OperatorKeyShape, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List operator keys, newest first."""
        self.query()
        return self.page(OperatorKey.objects.all(), OperatorKeyShape)

    @describe("Issue an operator key", body=NewOperatorKey, answer=NewOperatorKeyShape, status=201)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Issue a key for management."""
        asked = self.body(NewOperatorKey)
        key, made = keys.issue_operator_key(**asked, actor=self.actor, now=self.now)
        return Response({**OperatorKeyShape(key).data, "key": made.text}, status=201)


class OneOperatorKey(ManagementView):
    """One operator key."""

    scopes = {"GET": ADMIN}

    @describe("See an operator key", answer=OperatorKeyShape)
    def get(self, request: Request, key: str) -> Response:  # noqa: ARG002
        """See a key: its scopes and times, never itself."""
        self.query()
        found = OperatorKey.objects.filter(pk=number_of(OperatorKey.PREFIX, key)).first()
        if found is None:
            raise Http404("There is no such key.")
        return Response(OperatorKeyShape(found).data)


class RotateOperatorKey(ManagementView):
    """Replace an operator key."""

    scopes = {"POST": ADMIN}

    @describe("Rotate an operator key", body=Rotation, answer=NewOperatorKeyShape, status=201)
    def post(self, request: Request, key: str) -> Response:  # noqa: ARG002
        """Answer a new key with the same scopes; the old one works for `overlap_seconds` more."""
        asked = self.body(Rotation)
        new, made = keys.rotate_operator_key(
            number_of(OperatorKey.PREFIX, key), **asked, actor=self.actor, now=self.now
        )
        return Response({**OperatorKeyShape(new).data, "key": made.text}, status=201)


class RevokeOperatorKey(ManagementView):
    """End an operator key."""

    scopes = {"POST": ADMIN}

    @describe("Revoke an operator key", body=NoBody, answer=OperatorKeyShape)
    def post(self, request: Request, key: str) -> Response:  # noqa: ARG002
        """Refuse the key from the next call on; twice changes nothing."""
        self.body(NoBody)
        found = keys.revoke_operator_key(
            number_of(OperatorKey.PREFIX, key), actor=self.actor, now=self.now
        )
        return Response(OperatorKeyShape(found).data)
