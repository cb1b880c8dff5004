"""Refused events that were kept: see them, try them again, give them up."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.authentication import CallerKind
from accounts.api.describing import describe
from accounts.api.fields import (
    CustomerField,
    InstantField,
    PublicIdField,
    TextField,
    WholeField,
    instant,
)
from accounts.api.serializing import StrictSerializer
from accounts.api.views import ManagementView
from accounts.domain import ids
from accounts.models import Customer, Gateway
from metering.api.fields import until
from metering.domain.refusals import told_of
from metering.models import QuarantinedEvent, UsageEvent
from metering.operations import redriving
from metering.queries.quarantine import event_bounds, quarantined_events, refused_of

AT_ONCE = 1_000
ASK = "Ask whoever sends you the invoice: it can be counted once that is mended."


class QuarantinedShape(serializers.Serializer[QuarantinedEvent]):
    """An event as it was reported, and why it was not counted."""

    id = PublicIdField(QuarantinedEvent.PREFIX)
    state = serializers.ChoiceField(choices=QuarantinedEvent.State.values)
    customer = CustomerField(source="customer_id", allow_null=True)
    subject = serializers.CharField(help_text="Empty where the event named a customer's key.")
    source = serializers.CharField()  # type: ignore[assignment]  # a member, not the argument
    external_id = serializers.CharField(
        help_text="The `id` it was reported with. It and `type` are empty where there is a `shape`."
    )
    type = serializers.CharField()
    occurred_at = InstantField(allow_null=True)
    shape = serializers.CharField(
        help_text="The other system's shape from which it could not be translated; else empty."
    )
    properties = serializers.DictField(
        help_text="Where there is a `shape`, what the translator reads of the item. Empty where it "
        "was counted or discarded."
    )
    point = serializers.CharField(source="refusal.point", help_text="Where on its way it stopped.")
    code = serializers.CharField(help_text="Why it was refused the last time.")
    detail = serializers.CharField()
    mend = serializers.CharField(source="refusal.mend", help_text="What an operator does.")
    event = serializers.SerializerMethodField(help_text="As which event it is counted.")
    gateway = PublicIdField(Gateway.PREFIX, source="gateway_id", allow_null=True)
    first_at = InstantField()
    last_at = InstantField()
    closed_at = InstantField(allow_null=True, help_text="When it was counted, or discarded.")
    closed_by = serializers.CharField(help_text="Who discarded it; else empty.")
    reason = serializers.CharField(help_text="Why it was discarded, where that was said.")
    times = serializers.IntegerField(help_text="How often it was reported and refused.")

    def get_event(self, row: QuarantinedEvent) -> str | None:
        """The public id of the event that it became."""
        return went_to(row)


class QuarantineFateShape(serializers.Serializer[Any]):
    """That an event was refused and kept, and what became of that."""

    id = serializers.CharField()
    state = serializers.ChoiceField(choices=QuarantinedEvent.State.values)
    point = serializers.CharField(help_text="Where on its way it stopped.")
    code = serializers.CharField()
    detail = serializers.CharField()
    mend = serializers.CharField(allow_null=True, help_text="What to do; null where it is done.")
    event = serializers.CharField(allow_null=True, help_text="As which event it is counted.")
    first_at = InstantField()
    last_at = InstantField()
    closed_at = InstantField(allow_null=True, help_text="When it was counted, or discarded.")
    closed_by = serializers.CharField(help_text="Who discarded it; else empty.")
    reason = serializers.CharField(help_text="Why it was discarded, where that was said.")
    times = serializers.IntegerField()


class MyRefusedShape(serializers.Serializer[QuarantinedEvent]):
    """One of the customer's own events that was refused and kept; `GET /events/{id}` tells more."""

    id = PublicIdField(QuarantinedEvent.PREFIX)
    state = serializers.ChoiceField(choices=QuarantinedEvent.State.values)
    external_id = serializers.CharField(
        help_text="The `id` it was reported with. It and `type` are empty where it was not read."
    )
    type = serializers.CharField()
    occurred_at = InstantField(allow_null=True, help_text="Null: when it was first reported.")
    point = serializers.CharField(source="refusal.point", help_text="Where on its way it stopped.")
    code = serializers.CharField(help_text="Why it was refused the last time.")
    detail = serializers.SerializerMethodField(help_text="The same in words.")
    event = serializers.SerializerMethodField(help_text="As which event it is counted.")
    first_at = InstantField()
    last_at = InstantField()
    closed_at = InstantField(allow_null=True, help_text="When it was counted, or discarded.")
    reason = serializers.CharField(help_text="Why it was discarded, where that was said.")
    times = serializers.IntegerField(help_text="How often it was reported and refused.")

    def get_detail(self, row: QuarantinedEvent) -> str:
        """Without what is the operator's affair."""
        return told_to_customer(row)

    def get_event(self, row: QuarantinedEvent) -> str | None:
        """The public id of the event that it became."""
        return went_to(row)


class MyQuarantineQuery(StrictSerializer):
    """Which of the customer's own; all, unless a state is asked for."""

    state = serializers.ChoiceField(choices=QuarantinedEvent.State.values, required=False)


class QuarantineQuery(StrictSerializer):
    """Which events to list; those that wait, unless another state is asked for."""

    state = serializers.ChoiceField(choices=QuarantinedEvent.State.values, required=False)
    code = TextField(required=False)
    type = TextField(required=False)
    source = TextField(required=False)  # type: ignore[assignment]  # a member


class Chosen(StrictSerializer):
    """Which events to try again; all that wait where none are named.

    Some reasons are for a person to decide on: such an event is tried only where it is named.
    """

    events = serializers.ListField(
        child=PublicIdField(QuarantinedEvent.PREFIX), max_length=AT_ONCE, required=False
    )
    customer = CustomerField(
        required=False, help_text="Whose the named events are, where they do not say it."
    )
    limit = WholeField(least=1, most=AT_ONCE, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """A customer is given to events that somebody has looked at."""
        if "customer" in attrs and "events" not in attrs:
            raise serializers.ValidationError(
                {"events": "Name the events that are this customer's."}, code="required"
            )
        return attrs


class Given(StrictSerializer):
    """Which events to give up."""

    events = serializers.ListField(
        child=PublicIdField(QuarantinedEvent.PREFIX), min_length=1, max_length=AT_ONCE
    )
    reason = TextField(
        max_length=500, required=False, help_text="Why; the events' customers read it, too."
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
            state=asked.get("state", QuarantinedEvent.State.WAITING),
            code=asked.get("code"),
            type_=asked.get("type"),
            source=asked.get("source"),
        )
        return self.page(found, QuarantinedShape)


class MyQuarantine(ManagementView):
    """The customer's own events that were refused and kept."""

    callers: ClassVar[frozenset[CallerKind]] = frozenset({"customer"})

    @describe(
        "List this customer's refused events",
        answer=MyRefusedShape,
        query=MyQuarantineQuery,
        page=True,
    )
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List events that were refused and kept, newest first; others' do not exist."""
        asked = self.query(MyQuarantineQuery)
        customer = Customer.objects.get(id=self.customer_id)
        return self.page(refused_of(customer, state=asked.get("state")), MyRefusedShape)


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
            customer=asked.get("customer"),
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
        """Give events up that are not to be counted: their content goes, their fate stays.

        Those already gone are no fault.
        """
        asked = self.body(Given)
        gone = redriving.discard(
            event_ids=asked["events"],
            reason=asked.get("reason", ""),
            actor=self.actor,
            now=self.now,
        )
        return Response({"discarded": gone})


def went_to(row: QuarantinedEvent) -> str | None:
    """The public id of the event as which a row was counted; None where it was not."""
    if row.state in {row.State.WAITING, row.State.DISCARDED}:
        return None
    assert row.customer_id is not None
    assert row.event_id is not None
    return ids.encode_owned(UsageEvent.PREFIX, customer_id=row.customer_id, key=row.event_id)


def told_to_customer(row: QuarantinedEvent) -> str:
    """Why it was refused, in words that tell nothing of the operator's catalogue or database."""
    return told_of(row.code)


def quarantine_fate_body(row: QuarantinedEvent | None, *, operator: bool) -> dict[str, Any] | None:
    """What is told of it; to a customer without what is the operator's affair."""
    if row is None:
        return None
    waits = row.state == row.State.WAITING
    return {
        "id": row.public_id,
        "state": row.state,
        "point": row.refusal.point,
        "code": row.code,
        "detail": row.detail if operator else told_to_customer(row),
        "mend": (row.refusal.mend if operator else ASK) if waits else None,
        "event": went_to(row),
        "first_at": instant(row.first_at),
        "last_at": instant(row.last_at),
        "closed_at": until(row.closed_at),
        "closed_by": _closed_by(row, operator=operator),
        "reason": row.reason,
        "times": row.times,
    }


def stopped(row: QuarantinedEvent, *, operator: bool) -> str:
    """Where an event in quarantine stopped and why, or where it went."""
    if row.state == row.State.COUNTED:
        return f"It was refused, tried again, and is counted as {went_to(row)}."
    if row.state == row.State.DUPLICATE:
        return f"It was refused, and came again: it is counted as {went_to(row)}."
    detail = row.detail if operator else told_to_customer(row)
    refused = f"It was refused at its {row.refusal.point}: {detail}"
    if row.state != row.State.DISCARDED:
        return refused
    assert row.closed_at is not None
    whom = _closed_by(row, operator=operator)
    why = f": {row.reason}" if row.reason else "; why was not said."
    return f"{refused} It was kept, and discarded {row.closed_at:%Y-%m-%d %H:%M} UTC by {whom}{why}"


def _closed_by(row: QuarantinedEvent, *, operator: bool) -> str:
    """Who discarded it; which of the operator's people it was is the operator's affair."""
    return row.closed_by if operator or not row.closed_by else "the operator"
