"""Usage events: lists of them, and how one and its fate are written; billing adds the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import QuerySet
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
from metering.api.quarantine import QuarantineFateShape, quarantine_fate_body, stopped
from metering.models import (
    Backfill,
    Correction,
    Grant,
    Hold,
    Meter,
    QuarantinedEvent,
    UsageEvent,
)
from metering.queries.corrections import InForce, as_in_force
from metering.queries.events import EventFate, MeterFate, events


class CountedShape(serializers.Serializer[Any]):
    """What an event counts as; `member` is set on meters that count different ones."""

    meter = serializers.CharField()
    quantity = serializers.IntegerField()
    member = serializers.CharField(allow_null=True)


class OriginalShape(serializers.Serializer[Any]):
    """What an event was reported with, before it was corrected."""

    usage = CountedShape(many=True)
    properties = serializers.DictField()


class CorrectionShape(serializers.Serializer[Any]):
    """What an event counts as instead, who said so, and why."""

    number = serializers.IntegerField()
    kind = serializers.ChoiceField(choices=["amend", "void", "restore", "repay"])
    usage = CountedShape(many=True)
    properties = serializers.DictField()
    reason = serializers.CharField()
    actor = serializers.CharField()
    at = InstantField()
    backfill = serializers.CharField(allow_null=True)


class EventShape(serializers.Serializer[Any]):
    """A usage event; `usage` and `properties` are those in force, `original` what was reported."""

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
    corrected = serializers.ChoiceField(
        choices=["amend", "void", "restore", "repay"], allow_null=True
    )
    original = OriginalShape(allow_null=True, help_text="Null unless it was corrected.")


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
    corrections = CorrectionShape(many=True)
    backfill = serializers.CharField(allow_null=True, help_text="By which it was supplied.")
    quarantine = QuarantineFateShape(
        allow_null=True, help_text="That it was refused and kept; null where it never was."
    )
    stopped = serializers.CharField(allow_null=True)


class EventQuery(SpanQuery):
    """Which events to list."""

    customer = CustomerField()
    meter = MeterField(required=False)
    type = TextField(required=False)
    source = TextField(required=False)  # type: ignore[assignment]  # a member
    id = TextField(required=False, help_text="The `id` it was reported with, or evt_….")


class Events(ManagementView):
    """Usage events of a customer; reporting them is the gate's (config/asgi.py)."""

    scopes = {"GET": "events:read"}

    @property
    def default_response_headers(self) -> dict[str, str]:
        """`Allow` tells the gate's method of this path too."""
        own: dict[str, str] = super().default_response_headers
        return own | {"Allow": f"{own['Allow']}, POST"}

    @describe("List usage events", answer=EventShape, query=EventQuery, page=True)
    def get(self, request: Request) -> Response:
        """List a customer's events, the latest first."""
        asked = self.query(EventQuery)
        found = asked_events(asked["customer"].id, asked)
        page = CursorPage(found, request, ("-hour", "-occurred_at", "-id"))
        standing = as_in_force(asked["customer"].id, events=page.rows)
        meters = meter_keys(standing)
        return Response(page.body([event_body(each, meters) for each in standing]))


def asked_events(customer_id: int, asked: dict[str, Any]) -> QuerySet[UsageEvent]:
    """The customer's events that a validated EventQuery asks for."""
    found = events(
        customer_id,
        meter_id=asked["meter"].id if "meter" in asked else None,
        event_type=asked.get("type"),
        source=asked.get("source"),
        start_at=asked.get("from"),
        end_at=asked.get("to"),
    )
    if "id" not in asked:
        return found
    try:
        owner, key = ids.decode_owned(UsageEvent.PREFIX, asked["id"])
    except ids.IdMalformed:
        return found & events(customer_id, source=asked.get("source"), external_id=asked["id"])
    return found.filter(id=key) if owner == customer_id else found.none()


def event_body(standing: InForce, meters: dict[int, str]) -> dict[str, Any]:
    """An event as lists show it; `meters` are the keys by id."""
    event, correction = standing.event, standing.correction
    return {
        "id": ids.encode_owned(UsageEvent.PREFIX, customer_id=event.customer_id, key=event.id),
        "customer": ids.encode(Customer.PREFIX, event.customer_id),
        "source": event.source,
        "external_id": event.external_id,
        "type": event.type,
        "occurred_at": instant(event.occurred_at),
        "received_at": instant(event.received_at),
        "usage": counted_body(standing.usage, meters),
        "properties": standing.properties or {},
        "gateway": _public(Gateway.PREFIX, event.gateway_id),
        "api_key": _public(ApiKey.PREFIX, event.api_key_id),
        "from_hold": event.from_hold,
        "late": event.late,
        "over_hold": event.over_hold,
        "corrected": correction.kind if correction is not None else None,
        "original": {
            "usage": counted_body(event.usage, meters),
            "properties": event.properties or {},
        }
        if correction is not None
        else None,
    }


def fate_body(fate: EventFate, *, operator: bool = True) -> dict[str, Any]:
    """An event and its fate; `operator` False: as its customer is told it."""
    meters = meter_keys([fate.standing], fate.corrections)
    return {
        **event_body(fate.standing, meters),
        "fate": {
            "meters": [_meter_body(each) for each in fate.meters],
            "hold": _hold_body(fate.hold),
            "corrections": [correction_body(each, meters) for each in fate.corrections],
            "backfill": _public(Backfill.PREFIX, fate.backfill_id),
            "quarantine": quarantine_fate_body(fate.quarantined, operator=operator),
            "stopped": fate.stopped or None,
        },
    }


def refused_body(row: QuarantinedEvent, customer: Customer | None, *, operator: bool) -> Any:
    """An event that was refused and kept, as far as it came: as `fate_body`."""
    quarantine = quarantine_fate_body(row, operator=operator)
    assert quarantine is not None
    public_id = row.public_id
    if customer is not None and row.event_id is not None:
        public_id = ids.encode_owned(UsageEvent.PREFIX, customer_id=customer.id, key=row.event_id)
    return {
        "id": public_id,
        "customer": _public(Customer.PREFIX, customer.id if customer is not None else None),
        "source": row.source,
        "external_id": row.external_id,
        "type": row.type,
        "occurred_at": until(row.occurred_at),
        "received_at": instant(row.first_at),
        "usage": [],
        # What remains of an item of another system may be more than its customer's affair.
        "properties": row.properties if operator or not row.shape else {},
        "gateway": _public(Gateway.PREFIX, row.gateway_id),
        "api_key": None,
        "from_hold": False,
        "late": False,
        "over_hold": False,
        "corrected": None,
        "original": None,
        "fate": {
            "meters": [],
            "hold": None,
            "corrections": [],
            "backfill": None,
            "quarantine": quarantine,
            "stopped": stopped(row, operator=operator),
        },
    }


def counted_body(usage: dict[str, int | str], meters: dict[int, str]) -> list[dict[str, Any]]:
    """What an event counts as, meter by meter."""
    return [
        {"meter": meters[int(number)], **_counted(counted)}
        for number, counted in sorted(usage.items())
    ]


def correction_body(correction: Correction, meters: dict[int, str]) -> dict[str, Any]:
    """A correction."""
    backfill_id = correction.backfill_id
    return {
        "number": correction.number,
        "kind": correction.kind,
        "usage": counted_body(correction.usage, meters),
        "properties": correction.properties or {},
        "reason": correction.reason,
        "actor": correction.actor,
        "at": instant(correction.at),
        "backfill": _public(Backfill.PREFIX, backfill_id),
    }


def meter_keys(
    standing: Iterable[InForce], corrections: Iterable[Correction] = ()
) -> dict[int, str]:
    """The keys of all meters that these events count or ever counted on, by id."""
    usages = [usage for each in standing for usage in (each.usage, each.event.usage)]
    usages += [each.usage for each in corrections]
    numbers = {int(number) for usage in usages for number in usage}
    return dict(Meter.objects.filter(id__in=numbers).values_list("id", "key"))


def _counted(counted: int | str) -> dict[str, Any]:
    unique = isinstance(counted, str)
    return {"quantity": 1 if unique else counted, "member": counted if unique else None}


def _meter_body(fate: MeterFate) -> dict[str, Any]:
    return {
        "meter": fate.meter.key,
        **_counted(fate.counted),
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


def _public(prefix: str, number: int | None) -> str | None:
    return None if number is None else ids.encode(prefix, number)
