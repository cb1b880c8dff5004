"""Backfills: events of a range of time supplied afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.describing import describe
from accounts.api.fields import CustomerField, InstantField, PublicIdField, TextField
from accounts.api.serializing import NoBody, StrictSerializer
from accounts.api.views import ManagementView, number_of
from accounts.queries import customer_by_reference
from metering.models import Backfill
from metering.operations import backfilling
from metering.operations.backfilling import Refused, Supplied
from metering.operations.repaying import REASON_MAX
from metering.queries.backfills import backfill_by_id, progress_of

SOURCE = "backfill"


class BackfillStateShape(serializers.Serializer[Any]):
    """How many events were supplied, and what became of them."""

    supplied = serializers.IntegerField()
    waiting = serializers.IntegerField()
    added = serializers.IntegerField()
    amended = serializers.IntegerField(help_text="Took the place of the event with their id.")
    same = serializers.IntegerField(help_text="Were there already.")
    refused = serializers.IntegerField(
        help_text="Their id belongs to an event that they may not replace."
    )
    undone = serializers.IntegerField(help_text="Supplied ones taken back by a revert.")
    voided = serializers.IntegerField(help_text="Were there and not supplied again.")
    restored = serializers.IntegerField(help_text="Of those voided, put back by a revert.")
    dropped = serializers.IntegerField(
        help_text="Never counted, for it was reverted while it was open."
    )


class BackfillShape(serializers.Serializer[Any]):
    """A backfill as it is answered."""

    id = PublicIdField(Backfill.PREFIX)
    mode = serializers.ChoiceField(choices=["add", "replace"])
    status = serializers.ChoiceField(choices=["open", "closing", "closed", "reverting", "reverted"])
    event_type = serializers.CharField()
    customers = serializers.ListField(child=CustomerField())
    start_at = InstantField()
    end_at = InstantField()
    reason = serializers.CharField()
    actor = serializers.CharField()
    created_at = InstantField()
    closing_at = InstantField(allow_null=True)
    closed_at = InstantField(allow_null=True)
    reverted_at = InstantField(allow_null=True)
    events = BackfillStateShape()


class NewBackfill(StrictSerializer):
    """Of what the backfill is: one type of event, customers, and `[from, to)` of their time."""

    customers = serializers.ListField(
        child=CustomerField(), min_length=1, max_length=backfilling.CUSTOMERS_MAX
    )
    event_type = TextField(max_length=200)
    mode = serializers.ChoiceField(
        choices=["add", "replace"],
        help_text="replace: events of the range that are not supplied again are voided.",
    )
    reason = TextField(max_length=REASON_MAX)

    def get_fields(self) -> dict[str, Any]:
        """Add the two members whose names Python keeps for itself."""
        return {**super().get_fields(), "from": InstantField(), "to": InstantField()}


class SuppliedShape(StrictSerializer):
    """An event, named as CloudEvents names it."""

    id = TextField()
    source = TextField(required=False, help_text=f"Unless told, {SOURCE!r}.")  # type: ignore[assignment]
    subject = TextField(help_text="The customer: cus_… or external id.")
    time = InstantField()
    data = serializers.DictField(required=False)  # type: ignore[assignment]  # a member


class NewEvents(StrictSerializer):
    """Events to be supplied, each with its own fate."""

    events = serializers.ListField(
        child=serializers.DictField(), min_length=1, max_length=backfilling.EVENTS_AT_ONCE
    )


class RefusedShape(serializers.Serializer[Any]):
    """Why an event was not taken."""

    index = serializers.IntegerField()
    id = serializers.CharField(allow_null=True)
    code = serializers.CharField()
    detail = serializers.CharField()


class TakenShape(serializers.Serializer[Any]):
    """What became of the events supplied with one call."""

    accepted = serializers.IntegerField()
    duplicates = serializers.IntegerField()
    rejected = RefusedShape(many=True)


class Backfills(ManagementView):
    """Backfills."""

    scopes = {"GET": "events:read", "POST": "events:write"}

    @describe("List backfills", answer=BackfillShape, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List backfills, newest first."""
        return self.page(Backfill.objects.all(), _Shown)

    @describe("Open a backfill", body=NewBackfill, answer=BackfillShape, status=201)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Open a backfill; nothing of it counts before it is closed."""
        asked = self.body(NewBackfill)
        made = backfilling.open_backfill(
            mode=Backfill.Mode(asked["mode"]),
            event_type=asked["event_type"],
            customer_ids=[each.id for each in asked["customers"]],
            start_at=asked["from"],
            end_at=asked["to"],
            reason=asked["reason"],
            actor=self.actor,
            now=self.now,
        )
        return Response(backfill_body(made), status=201)


class OneBackfill(ManagementView):
    """One backfill."""

    scopes = {"GET": "events:read"}

    @describe("See a backfill", answer=BackfillShape)
    def get(self, request: Request, backfill: str) -> Response:  # noqa: ARG002
        """See how far a backfill is."""
        self.query()
        found = backfill_by_id(number_of(Backfill.PREFIX, backfill))
        if found is None:
            raise Http404("There is no such backfill.")
        return Response(backfill_body(found))


class BackfillEvents(ManagementView):
    """Events of a backfill."""

    scopes = {"POST": "events:write"}
    body_max = 16 * 1_048_576

    @describe("Supply events to a backfill", body=NewEvents, answer=TakenShape)
    def post(self, request: Request, backfill: str) -> Response:  # noqa: ARG002
        """Supply up to 5,000 events, each with its own fate; sent again they are duplicates.

        An event is `{"id", "source", "subject", "time", "data"}`, as in POST /events; its type is
        the backfill's.
        """
        asked = self.body(NewEvents)["events"]
        known: dict[str, int | None] = {}
        read = [_read(index, each, known) for index, each in enumerate(asked)]
        places = [index for index, each in enumerate(read) if isinstance(each, Supplied)]
        supplied = [each for each in read if isinstance(each, Supplied)]
        rejected = [each for each in read if isinstance(each, Refused)]
        accepted = duplicates = 0
        if supplied:
            taken = backfilling.supply(number_of(Backfill.PREFIX, backfill), events=supplied)
            accepted, duplicates = taken.accepted, taken.duplicates
            rejected += [
                Refused(places[each.index], each.external_id, each.code, each.detail)
                for each in taken.rejected
            ]
        return Response(
            {
                "accepted": accepted,
                "duplicates": duplicates,
                "rejected": [
                    {
                        "index": each.index,
                        "id": each.external_id or None,
                        "code": each.code,
                        "detail": each.detail,
                    }
                    for each in sorted(rejected, key=lambda each: each.index)
                ],
            }
        )


class CloseBackfill(ManagementView):
    """Let a backfill count."""

    scopes = {"POST": "events:write"}

    @describe("Close a backfill", body=NoBody, answer=BackfillShape)
    def post(self, request: Request, backfill: str) -> Response:  # noqa: ARG002
        """Let it count: workers apply it from now on. Twice changes nothing."""
        self.body(NoBody)
        number = number_of(Backfill.PREFIX, backfill)
        return Response(backfill_body(backfilling.close(number, actor=self.actor, now=self.now)))


class RevertBackfill(ManagementView):
    """Drop a backfill, or undo it."""

    scopes = {"POST": "events:write"}

    @describe("Revert a backfill", body=NoBody, answer=BackfillShape)
    def post(self, request: Request, backfill: str) -> Response:  # noqa: ARG002
        """Drop an open backfill; undo one that was closed, as a whole. Twice changes nothing."""
        self.body(NoBody)
        number = number_of(Backfill.PREFIX, backfill)
        return Response(backfill_body(backfilling.revert(number, actor=self.actor, now=self.now)))


def backfill_body(backfill: Backfill) -> dict[str, Any]:
    """A backfill and how far it is."""
    shown = BackfillShape(
        {
            **{name: getattr(backfill, name) for name in _COLUMNS},
            "events": progress_of(backfill.id),
        }
    )
    return dict(shown.data)


_COLUMNS = (
    *("id", "mode", "status", "event_type", "customers", "start_at", "end_at", "reason"),
    *("actor", "created_at", "closing_at", "closed_at", "reverted_at"),
)


class _Shown(BackfillShape):
    """The same, for a page of them."""

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """A backfill and how far it is."""
        return backfill_body(instance)


def _read(index: int, item: Mapping[str, Any], known: dict[str, int | None]) -> Supplied | Refused:
    """An event of the body, or what is wrong with its members. `known`: customers by subject."""
    named = item.get("id")
    external_id = named if isinstance(named, str) else ""
    shape = SuppliedShape(data=item)
    if not shape.is_valid():
        name, errors = next(iter(shape.errors.items()))
        error = errors[0]
        code = {"required": "parameter_missing", "unknown": "parameter_unknown"}.get(
            getattr(error, "code", ""), "parameter_invalid"
        )
        return Refused(index, external_id, code, f"`{name}`: {error}")
    event = shape.validated_data
    subject = event["subject"]
    if subject not in known:
        customer = customer_by_reference(subject)
        known[subject] = None if customer is None else customer.id
    return Supplied(
        customer_id=known[subject],
        source=event.get("source", SOURCE),
        external_id=event["id"],
        occurred_at=event["time"],
        properties=event.get("data", {}),
    )
