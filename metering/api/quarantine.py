"""Refused events that were kept: see them, try them again, give them up."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.describing import describe
from accounts.api.fields import CustomerField, InstantField, PublicIdField, TextField, WholeField
from accounts.api.serializing import StrictSerializer
from accounts.api.views import ManagementView
from accounts.models import Gateway
from metering.models import QuarantinedEvent
from metering.operations import redriving
from metering.queries.quarantine import event_bounds, quarantined_events

AT_ONCE = 1_000


class QuarantinedShape(serializers.Serializer[QuarantinedEvent]):
    """An event as it was reported, and why it is not counted."""

    id = PublicIdField(QuarantinedEvent.PREFIX)
    customer = CustomerField(source="customer_id", allow_null=True)
    subject = serializers.CharField(help_text="Empty where the event named a customer's key.")
    source = serializers.CharField()  # type: ignore[assignment]  # a member, not the argument
    external_id = serializers.CharField(help_text="The `id` it was reported with.")
    type = serializers.CharField()
    occurred_at = InstantField(allow_null=True)
    properties = serializers.DictField()
    code = serializers.CharField(help_text="Why it was refused the last time.")
    detail = serializers.CharField()
    gateway = PublicIdField(Gateway.PREFIX, source="gateway_id", allow_null=True)
    first_at = InstantField()
    last_at = InstantField()
    times = serializers.IntegerField(help_text="How often it was reported and refused.")


class QuarantineQuery(StrictSerializer):
    """Which events to list."""

    code = TextField(required=False)
    type = TextField(required=False)
    source = TextField(required=False)  # type: ignore[assignment]  # a member


class Chosen(StrictSerializer):
    """Which events to try again; all that wait where none are named."""

    events = serializers.ListField(
        child=PublicIdField(QuarantinedEvent.PREFIX), max_length=AT_ONCE, required=False
    )
    limit = WholeField(least=1, most=AT_ONCE, required=False)


class Given(StrictSerializer):
    """Which events to give up."""

    events = serializers.ListField(
        child=PublicIdField(QuarantinedEvent.PREFIX), min_length=1, max_length=AT_ONCE
    )


class RedrivenShape(serializers.Serializer[Any]):
    """What became of the events that were tried."""

    counted = serializers.IntegerField()
    duplicates = serializers.IntegerField(help_text="Counted meanwhile, by another way.")
    refused = serializers.IntegerField(help_text="They stay, with their new reason.")
    waiting = serializers.IntegerField(help_text="How many are in quarantine now.")


class DiscardedShape(serializers.Serializer[Any]):
    """How many were given up."""

    discarded = serializers.IntegerField()


class Quarantine(ManagementView):
    """Events in quarantine."""

    scopes = {"GET": "events:read"}

    @describe("List quarantined events", answer=QuarantinedShape, query=QuarantineQuery, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List refused events that were kept, newest first."""
        asked = self.query(QuarantineQuery)
        found = quarantined_events(
            code=asked.get("code"), type_=asked.get("type"), source=asked.get("source")
        )
        return self.page(found, QuarantinedShape)


class Redrive(ManagementView):
    """Try events in quarantine again."""

    scopes = {"POST": "events:write"}
    one_transaction = False  # each event has its own

    @describe("Try quarantined events again", body=Chosen, answer=RedrivenShape)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Count what can be counted by now, the longest waiting first. Safe to repeat."""
        asked = self.body(Chosen)
        done = redriving.redrive(
            event_ids=asked.get("events"),
            limit=asked.get("limit", AT_ONCE),
            bounds=event_bounds(),
            actor=self.actor,
            now=self.now,
        )
        return Response(
            {
                "counted": done.counted,
                "duplicates": done.duplicates,
                "refused": done.refused,
                "waiting": quarantined_events().count(),
            }
        )


class Discard(ManagementView):
    """Give events in quarantine up."""

    scopes = {"POST": "events:write"}

    @describe("Give up quarantined events", body=Given, answer=DiscardedShape)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Delete events that will never be counted. Those already gone are no fault."""
        asked = self.body(Given)
        gone = redriving.discard(event_ids=asked["events"], actor=self.actor, now=self.now)
        return Response({"discarded": gone})
