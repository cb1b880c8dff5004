"""Usage events: list them, and see the whole fate of one."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.describing import describe
from accounts.api.fields import CustomerField, InstantField, TextField, instant
from accounts.api.paging import CursorPage
from accounts.api.views import ManagementView
from accounts.domain import ids
from accounts.models import ApiKey, Customer, Gateway
from metering.api.fields import MeterField, SpanQuery, until
from metering.models import Grant, Hold, Meter, UsageEvent
from metering.queries.events import EventFate, MeterFate, event_fate, events


class CountedShape(serializers.Serializer[Any]):
    """What an event counted as."""

    meter = serializers.CharField()
    quantity = serializers.IntegerField()


class EventShape(serializers.Serializer[Any]):
    """A usage event as it was reported, and what it counted as."""

    id = serializers.CharField()
    customer = CustomerField()
    source = serializers.CharField()  # type: ignore[assignment]  # a member, not the argument
    external_id = serializers.CharField(help_text="The `id` it was reported with.")
    type = serializers.CharField()
    occurred_at = InstantField()
    received_at = InstantField()
    usage = CountedShape(many=True)
    properties = serializers.DictField()
    gateway = serializers.CharField(allow_null=True)
    api_key = serializers.CharField(allow_null=True)
    from_hold = serializers.BooleanField()
    late = serializers.BooleanField(help_text="Settled after its hold had expired.")
    over_hold = serializers.BooleanField(help_text="More was used than had been held.")


class BucketShape(serializers.Serializer[Any]):
    """The hour and dimensions under which an event is summed."""

    start_at = InstantField()
    dimensions = serializers.DictField(child=serializers.CharField())
    rolled_up = serializers.BooleanField()


class WindowShape(serializers.Serializer[Any]):
    """A window in which it counted, as its balance stands now."""

    window = serializers.CharField()
    start_at = InstantField()
    end_at = InstantField(allow_null=True)
    used = serializers.IntegerField()
    grant_used = serializers.IntegerField()


class BurnedShape(serializers.Serializer[Any]):
    """A grant that paid for it."""

    grant = serializers.CharField()
    quantity = serializers.IntegerField()


class MeterFateShape(CountedShape):
    """What became of an event on one meter."""

    bucket = BucketShape()
    windows = WindowShape(many=True)
    grants = BurnedShape(many=True)


class HoldFateShape(serializers.Serializer[Any]):
    """The hold that it settled."""

    id = serializers.CharField()
    state = serializers.CharField()
    opened_at = InstantField()
    expires_at = InstantField()
    closed_at = InstantField(allow_null=True)


class FateShape(serializers.Serializer[Any]):
    """How far an event came; `stopped` says where and why, null where it went all the way."""

    meters = MeterFateShape(many=True)
    hold = HoldFateShape(allow_null=True)
    stopped = serializers.CharField(allow_null=True)


class EventFateShape(EventShape):
    """An event and its fate."""

    fate = FateShape()


class EventQuery(SpanQuery):
    """Which events to list."""

    customer = CustomerField()
    meter = MeterField(required=False)
    type = TextField(required=False)
    source = TextField(required=False)  # type: ignore[assignment]  # a member


class Events(ManagementView):
    """Usage events of a customer; reporting them is the gate's (config/asgi.py)."""

    scopes = {"GET": "events:read"}

    @describe("List usage events", answer=EventShape, query=EventQuery, page=True)
    def get(self, request: Request) -> Response:
        """List a customer's events, the latest first."""
        asked = self.query(EventQuery)
        found = events(
            asked["customer"].id,
            meter_id=asked["meter"].id if "meter" in asked else None,
            start_at=asked.get("from"),
            end_at=asked.get("to"),
        ).filter(**{name: asked[name] for name in ("type", "source") if name in asked})
        page = CursorPage(found, request, ("-occurred_at", "-id"))
        meters = _meter_keys(page.rows)
        return Response(page.body([event_body(each, meters) for each in page.rows]))


class OneEvent(ManagementView):
    """One usage event."""

    scopes = {"GET": "events:read"}

    @describe("See an event's fate", answer=EventFateShape)
    def get(self, request: Request, event: str) -> Response:  # noqa: ARG002
        """See an event and all that became of it."""
        self.query()
        customer_id, key = ids.decode_owned(UsageEvent.PREFIX, event)
        fate = event_fate(customer_id, event_id=key)
        if fate is None:
            raise Http404("There is no such event.")
        return Response(fate_body(fate))


def event_body(event: UsageEvent, meters: dict[int, str]) -> dict[str, Any]:
    """An event as lists show it; `meters` are the keys by id."""
    return {
        "id": ids.encode_owned(UsageEvent.PREFIX, customer_id=event.customer_id, key=event.id),
        "customer": ids.encode(Customer.PREFIX, event.customer_id),
        "source": event.source,
        "external_id": event.external_id,
        "type": event.type,
        "occurred_at": instant(event.occurred_at),
        "received_at": instant(event.received_at),
        "usage": [
            {"meter": meters[int(number)], "quantity": quantity}
            for number, quantity in sorted(event.usage.items())
        ],
        "properties": event.properties or {},
        "gateway": _public(Gateway.PREFIX, event.gateway_id),
        "api_key": _public(ApiKey.PREFIX, event.api_key_id),
        "from_hold": event.from_hold,
        "late": event.late,
        "over_hold": event.over_hold,
    }


def fate_body(fate: EventFate) -> dict[str, Any]:
    """An event and its fate."""
    meters = {each.meter.id: each.meter.key for each in fate.meters}
    return {
        **event_body(fate.event, meters),
        "fate": {
            "meters": [_meter_body(each) for each in fate.meters],
            "hold": _hold_body(fate.hold),
            "stopped": fate.stopped or None,
        },
    }


def _meter_body(fate: MeterFate) -> dict[str, Any]:
    return {
        "meter": fate.meter.key,
        "quantity": fate.quantity,
        "bucket": {
            "start_at": instant(fate.bucket_at),
            "dimensions": fate.dimensions,
            "rolled_up": fate.rolled_up,
        },
        "windows": [
            {
                "window": each.window,
                "start_at": instant(each.start_at),
                "end_at": until(each.end_at),
                "used": each.used,
                "grant_used": each.grant_used,
            }
            for each in fate.windows
        ],
        "grants": [
            {"grant": ids.encode(Grant.PREFIX, number), "quantity": quantity}
            for number, quantity in sorted(fate.grants.items())
        ],
    }


def _hold_body(hold: Hold | None) -> dict[str, Any] | None:
    if hold is None:
        return None
    return {
        "id": ids.encode_owned(Hold.PREFIX, customer_id=hold.customer_id, key=hold.id),
        "state": hold.state,
        "opened_at": instant(hold.opened_at),
        "expires_at": instant(hold.expires_at),
        "closed_at": until(hold.closed_at),
    }


def _meter_keys(rows: list[UsageEvent]) -> dict[int, str]:
    numbers = {int(number) for event in rows for number in event.usage}
    return dict(Meter.objects.filter(id__in=numbers).values_list("id", "key"))


def _public(prefix: str, number: int | None) -> str | None:
    return None if number is None else ids.encode(prefix, number)
