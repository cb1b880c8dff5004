"""Meters: define, list, see, archive."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.describing import describe
from accounts.api.fields import (
    InstantField,
    KeyField,
    PublicIdField,
    TextField,
    WholeField,
)
from accounts.api.serializing import NoBody, StrictSerializer
from accounts.api.views import ManagementView
from metering.models import Meter
from metering.operations import defining
from metering.queries.meters import meter_by_reference


class DisplayShape(StrictSerializer):
    """How a quantity is shown to people: divided, in another unit."""

    unit = TextField(max_length=40)
    divisor = WholeField(least=1)


class FilterShape(StrictSerializer):
    """Only events whose property has one of the values; `in` is a list of texts, numbers, flags."""

    property = TextField(max_length=64)

    def get_fields(self) -> dict[str, Any]:
        """Add the member whose name Python keeps for itself."""
        return {
            **super().get_fields(),
            "in": serializers.ListField(child=serializers.JSONField(), max_length=100),
        }


class MeterShape(serializers.Serializer[Meter]):
    """A meter as it is answered."""

    id = PublicIdField(Meter.PREFIX, source="pk")
    key = serializers.CharField()
    event_type = serializers.CharField()
    aggregation = serializers.ChoiceField(choices=Meter.Aggregation.choices)
    property = serializers.CharField(source="value_property")
    dimensions = serializers.ListField(child=serializers.CharField())
    filters = serializers.ListField(child=FilterShape())
    unit = serializers.CharField()
    display = serializers.DictField()
    created_at = InstantField()
    archived_at = InstantField(allow_null=True)


class NewMeter(StrictSerializer):
    """A meter to be defined; nothing of it changes later."""

    key = KeyField()
    event_type = TextField(max_length=200)
    aggregation = TextField()
    property = TextField(max_length=64, allow_blank=True, required=False, source="value_property")
    dimensions = serializers.ListField(child=TextField(max_length=64), required=False)
    filters = serializers.ListField(child=FilterShape(), required=False)
    unit = TextField(max_length=40, required=False)
    display = DisplayShape(required=False)


class MeterQuery(StrictSerializer):
    """Which meters to list."""

    event_type = TextField(required=False)
    archived = serializers.BooleanField(required=False)


class Meters(ManagementView):
    """All meters."""

    scopes = {"GET": "meters:read", "POST": "meters:write"}

    @describe("List meters", answer=MeterShape, query=MeterQuery, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List meters, newest first."""
        asked = self.query(MeterQuery)
        found = Meter.objects.all()
        if "event_type" in asked:
            found = found.filter(event_type=asked["event_type"])
        if "archived" in asked:
            found = found.filter(archived_at__isnull=not asked["archived"])
        return self.page(found, MeterShape)

    @describe("Define a meter", body=NewMeter, answer=MeterShape, status=201)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Define a meter; the next event of its type counts."""
        meter = defining.define_meter(**self.body(NewMeter), actor=self.actor, now=self.now)
        return Response(MeterShape(meter).data, status=201)


class OneMeter(ManagementView):
    """One meter, by `mtr_…` or key."""

    scopes = {"GET": "meters:read"}

    @describe("See a meter", answer=MeterShape)
    def get(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """See a meter."""
        self.query()
        return Response(MeterShape(_meter_of(reference)).data)


class ArchiveMeter(ManagementView):
    """Take a meter out of use."""

    scopes = {"POST": "meters:write"}

    @describe("Archive a meter", body=NoBody, answer=MeterShape)
    def post(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """Count no more events on it; what was counted stays. Twice changes nothing."""
        self.body(NoBody)
        meter = defining.archive_meter(_meter_of(reference).id, actor=self.actor, now=self.now)
        return Response(MeterShape(meter).data)


def _meter_of(reference: str) -> Meter:
    meter = meter_by_reference(reference)
    if meter is None:
        raise Http404("There is no such meter.")
    return meter
