"""Corrections of usage events: amend and void."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.describing import describe
from accounts.api.fields import TextField, WholeField
from accounts.api.serializing import StrictSerializer
from accounts.api.views import ManagementView
from accounts.domain import ids
from metering.api.events import CorrectionShape, correction_body, meter_keys
from metering.api.fields import MeterField
from metering.domain.meters import QUANTITY_MAX
from metering.models import Correction, UsageEvent
from metering.operations import correcting
from metering.operations.repaying import REASON_MAX
from metering.queries.corrections import in_force


class QuantityShape(StrictSerializer):
    """A meter, and what the event counts as on it."""

    meter = MeterField()
    quantity = WholeField(most=QUANTITY_MAX)


class Amendment(StrictSerializer):
    """What an event counts as instead.

    `quantity` is for events that count on one meter, `quantities` for any; `properties` replace
    the event's, and an event that was reported is counted anew by them.
    """

    quantity = WholeField(most=QUANTITY_MAX, required=False)
    quantities = serializers.ListField(
        child=QuantityShape(), required=False, max_length=16, min_length=1
    )
    properties = serializers.DictField(required=False)
    reason = TextField(max_length=REASON_MAX)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse both ways of naming a quantity at once, and a meter named twice."""
        if "quantity" in attrs and "quantities" in attrs:
            raise _refused("quantity", "Either this or `quantities`.")
        named = [each["meter"].id for each in attrs.get("quantities", ())]
        if len(set(named)) != len(named):
            raise _refused("quantities", "A meter is named twice.")
        return attrs


class Voiding(StrictSerializer):
    """Why an event shall count as nothing."""

    reason = TextField(max_length=REASON_MAX)


class AmendEvent(ManagementView):
    """Let an event count as something else."""

    scopes = {"POST": "events:write"}

    @describe("Amend an event", body=Amendment, answer=CorrectionShape)
    def post(self, request: Request, event: str) -> Response:  # noqa: ARG002
        """Amend an event; it stays as it was reported, and the correction beside it counts.

        Usage, balances and grants follow at once, invoices that were issued by an adjustment on
        the next. The same amendment twice in a row is one.
        """
        asked = self.body(Amendment)
        customer_id, key = ids.decode_owned(UsageEvent.PREFIX, event)
        quantities = {each["meter"].id: each["quantity"] for each in asked.get("quantities", ())}
        if "quantity" in asked:
            quantities = _only_meter(customer_id, key, quantity=asked["quantity"])
        made = correcting.amend(
            customer_id,
            event_id=key,
            quantities=quantities or None,
            properties=asked.get("properties"),
            reason=asked["reason"],
            actor=self.actor,
            now=self.now,
        )
        return Response(_body(made))


class VoidEvent(ManagementView):
    """Let an event count as nothing."""

    scopes = {"POST": "events:write"}

    @describe("Void an event", body=Voiding, answer=CorrectionShape)
    def post(self, request: Request, event: str) -> Response:  # noqa: ARG002
        """Void an event for good; twice changes nothing."""
        asked = self.body(Voiding)
        customer_id, key = ids.decode_owned(UsageEvent.PREFIX, event)
        made = correcting.void(
            customer_id, event_id=key, reason=asked["reason"], actor=self.actor, now=self.now
        )
        return Response(_body(made))


def _body(correction: Correction) -> dict[str, Any]:
    return correction_body(correction, meter_keys((), [correction]))


def _only_meter(customer_id: int, key: Any, *, quantity: int) -> dict[int, int]:
    """The one meter that the event counts on; an unknown event is the operation's to refuse."""
    standing = in_force(customer_id, event_ids=[key]).get(key)
    usage = standing.usage if standing is not None else {}
    if len(usage) > 1:
        raise _refused("quantity", "The event counts on several meters: use `quantities`.")
    return {int(number): quantity for number in usage} or {0: quantity}


def _refused(param: str, sentence: str) -> ValidationError:
    return ValidationError({param: [ErrorDetail(sentence, code="invalid")]})
