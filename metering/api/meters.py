"""Meters: define, list, see, archive."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.http import Http404
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.describing import describe
from accounts.api.fields import (
    FlagField,
    InstantField,
    KeyField,
    PublicIdField,
    TextField,
    WholeField,
)
from accounts.api.serializing import NoBody, StrictSerializer
from accounts.api.views import ManagementView
from metering.domain.meters import number_of
from metering.models import Meter
from metering.operations import defining
from metering.queries.meters import meter_by_reference


class DisplayShape(StrictSerializer):
    """How a quantity is shown to people: divided, in another unit."""

    unit = TextField(max_length=40)
    divisor = WholeField(least=1)


@extend_schema_field({"type": "number"})
class NumberField(serializers.Field[Any, Any, Any, Any]):
    """A JSON number."""

    def to_internal_value(self, data: Any) -> Any:
        """Refuse what is no number."""
        if number_of(data) is None:
            raise ValidationError([ErrorDetail("This must be a number.", code="invalid")])
        return data

    def to_representation(self, value: Any) -> Any:
        """The number as it is."""
        return value


class FilterShape(StrictSerializer):
    """Only events whose property fits all conditions that are named.

    `in` and `not_in`: lists of texts, numbers, flags; `exists`: it is there, or not; `gte`, `gt`,
    `lte`, `lt`: it is a number in that range.
    """

    property = TextField(max_length=64)
    not_in = serializers.ListField(child=serializers.JSONField(), max_length=100, required=False)
    exists = FlagField(required=False)
    gte = NumberField(required=False)
    gt = NumberField(required=False)
    lte = NumberField(required=False)
    lt = NumberField(required=False)

    def get_fields(self) -> dict[str, Any]:
        """Add the member whose name Python keeps for itself."""
        values = serializers.ListField(
            child=serializers.JSONField(), max_length=100, required=False
        )
        return {**super().get_fields(), "in": values}


class PriceTableKey(serializers.CharField):
    """A price table as its key; null where there is none."""

    def __init__(self) -> None:
        super().__init__(allow_null=True, source="price_table.key", default=None)


class MeterShape(serializers.Serializer[Meter]):
    """A meter as it was defined; its `/versions` say what it matches since it was changed."""

    id = PublicIdField(Meter.PREFIX, source="pk")
    key = serializers.CharField()
    event_type = serializers.CharField()
    aggregation = serializers.ChoiceField(choices=Meter.Aggregation.choices)
    property = serializers.CharField(source="value_property")
    dimensions = serializers.ListField(child=serializers.CharField())
    filters = serializers.ListField(child=serializers.DictField())
    price_table = PriceTableKey()
    unit = serializers.CharField()
    display = serializers.DictField()
    created_at = InstantField()
    archived_at = InstantField(allow_null=True)


class NewMeter(StrictSerializer):
    """A meter to be defined; its key, aggregation and unit never change."""

    key = KeyField()
    event_type = TextField(max_length=200)
    aggregation = TextField()
    property = TextField(max_length=64, allow_blank=True, required=False, source="value_property")
    dimensions = serializers.ListField(child=TextField(max_length=64), required=False)
    filters = serializers.ListField(child=FilterShape(), required=False)
    price_table = KeyField(required=False)
    unit = TextField(max_length=40, required=False)
    display = DisplayShape(required=False)


class NewMeterVersion(StrictSerializer):
    """What is to change, and from when on; what is not named stays as it is then."""

    effective_at = InstantField(required=False, allow_null=True)
    event_type = TextField(max_length=200, required=False)
    property = TextField(max_length=64, required=False, source="value_property")
    dimensions = serializers.ListField(child=TextField(max_length=64), required=False)
    filters = serializers.ListField(child=FilterShape(), required=False)
    price_table = KeyField(required=False)


class MeterVersionShape(serializers.Serializer[Any]):
    """What a meter matches from a time on (null: from ever) until the next version's."""

    number = serializers.IntegerField()
    effective_at = InstantField(allow_null=True)
    event_type = serializers.CharField()
    property = serializers.CharField(source="value_property")
    dimensions = serializers.ListField(child=serializers.CharField())
    filters = serializers.ListField(child=serializers.DictField())
    price_table = PriceTableKey()


class MeterVersionsShape(serializers.Serializer[Any]):
    """All versions of a meter, the first first."""

    data = MeterVersionShape(many=True)  # type: ignore[assignment]  # a member


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


class MeterVersions(ManagementView):
    """What a meter matched and will match."""

    scopes = {"GET": "meters:read", "POST": "meters:write"}

    @describe("List versions of a meter", answer=MeterVersionsShape)
    def get(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """List what the meter matches from which time on."""
        self.query()
        return Response(_versions(_meter_of(reference)))

    @describe("Change a meter", body=NewMeterVersion, answer=MeterVersionsShape, status=201)
    def post(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """Let the meter match otherwise from a time on; what occurred before counts as it did."""
        meter = _meter_of(reference)
        defining.change_meter(
            meter.id,
            **self.body(NewMeterVersion),
            ahead=timedelta(seconds=settings.EVENT_MAX_AHEAD_S),
            actor=self.actor,
            now=self.now,
        )
        return Response(_versions(meter), status=201)


class ArchiveMeter(ManagementView):
    """Take a meter out of use."""

    scopes = {"POST": "meters:write"}

    @describe("Archive a meter", body=NoBody, answer=MeterShape)
    def post(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """Count no more events on it; what was counted stays. Twice changes nothing."""
        self.body(NoBody)
        meter = defining.archive_meter(_meter_of(reference).id, actor=self.actor, now=self.now)
        return Response(MeterShape(meter).data)


def _versions(meter: Meter) -> dict[str, Any]:
    changes = meter.versions.select_related("price_table").order_by("number")
    first = {
        "number": 1,
        "effective_at": None,
        "event_type": meter.event_type,
        "value_property": meter.value_property,
        "dimensions": meter.dimensions,
        "filters": meter.filters,
        "price_table": meter.price_table,
    }
    return {"data": [MeterVersionShape(each).data for each in (first, *changes)]}


def _meter_of(reference: str) -> Meter:
    meter = meter_by_reference(reference)
    if meter is None:
        raise Http404("There is no such meter.")
    return meter
