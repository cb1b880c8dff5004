"""The whole fate of a usage event: from what it counted as to the line that charges it."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.authentication import CallerKind
from accounts.api.describing import describe
from accounts.api.fields import CustomerField, InstantField
from accounts.api.views import ManagementView
from billing.models import InvoiceLine
from billing.queries.event_fates import BilledFate, WholeFate, event_by_id
from metering.api.events import EventShape, FateShape, MeterFateShape, fate_body, refused_body
from metering.queries.quarantine import what_is_kept


class ChargedShape(serializers.Serializer[Any]):
    """The line that holds the event's usage, and where that is at Stripe."""

    invoice = serializers.CharField()
    number = serializers.CharField(allow_null=True)
    status = serializers.CharField()
    line = serializers.CharField()
    quantity = serializers.IntegerField(allow_null=True)
    amount = serializers.IntegerField()
    currency = serializers.CharField()
    stripe_invoice = serializers.CharField(allow_null=True)
    stripe_line = serializers.CharField(allow_null=True)


class BilledMeterShape(MeterFateShape):
    """What became of an event on one meter, to the end; `stopped` says why it is no further."""

    charged = ChargedShape(allow_null=True)
    adjusted = ChargedShape(allow_null=True, help_text="What put it right after a correction.")
    stopped = serializers.CharField(allow_null=True)


class FormerMeterShape(serializers.Serializer[Any]):
    """A meter on which it counted before it was corrected."""

    meter = serializers.CharField()
    charged = ChargedShape(allow_null=True)
    adjusted = ChargedShape(allow_null=True)
    stopped = serializers.CharField(allow_null=True)


class WholeFateShape(FateShape):
    """How far an event came."""

    meters = BilledMeterShape(many=True)
    former_meters = FormerMeterShape(many=True)


class EventWholeFateShape(EventShape):
    """An event and all that became of it; of one in quarantine what is known of it."""

    customer = CustomerField(allow_null=True, help_text="Null where it is not known.")
    occurred_at = InstantField(allow_null=True)
    fate = WholeFateShape()


_NO_SUCH = "There is no such event: it was not counted, and is not in quarantine."
_NOT_YOURS = "There is no such event of yours. One that was refused is there only if it was kept."


class OneEvent(ManagementView):
    """One usage event and its fate; a customer's key sees its own."""

    callers: ClassVar[frozenset[CallerKind]] = frozenset({"operator", "customer"})
    scopes = {"GET": "events:read"}

    @describe("See an event's fate", answer=EventWholeFateShape)
    def get(self, request: Request, event: str) -> Response:  # noqa: ARG002
        """See an event and all that became of it, up to its invoice line, or where it stopped.

        `evt_…`, or `qua_…` of one that was refused and kept.
        """
        self.query()
        found = event_by_id(event, caller=self.caller.customer_id)
        if found is None:
            operator = self.caller.customer_id is None
            raise Http404(f"{_NO_SUCH} {what_is_kept()}" if operator else _NOT_YOURS)
        if isinstance(found, WholeFate):
            return Response(self._counted(found))
        operator = self.caller.customer_id is None
        body = refused_body(found.row, found.customer, operator=operator)
        body["fate"]["former_meters"] = []
        return Response(body)

    def _counted(self, fate: WholeFate) -> dict[str, Any]:
        body = fate_body(fate.metered, operator=self.caller.customer_id is None)
        for shown, counted in zip(body["fate"]["meters"], fate.metered.meters, strict=True):
            shown.update(_billed_body(fate.billed[counted.meter.id]))
        body["fate"]["former_meters"] = [
            {"meter": meter.key, **_billed_body(fate.billed[meter.id])} for meter in fate.former
        ]
        if self.caller.customer_id is not None:
            for each in body["fate"]["corrections"]:
                each["actor"] = "operator"  # who of them it was is the operator's affair
        return body


def _billed_body(billed: BilledFate) -> dict[str, Any]:
    return {
        "charged": _charged(billed.line),
        "adjusted": _charged(billed.adjusted),
        "stopped": billed.stopped or None,
    }


def _charged(line: InvoiceLine | None) -> dict[str, Any] | None:
    if line is None:
        return None
    invoice = line.invoice
    return {
        "invoice": invoice.public_id,
        "number": invoice.number,
        "status": invoice.status,
        "line": line.public_id,
        "quantity": line.quantity,
        "amount": line.amount,
        "currency": invoice.currency,
        "stripe_invoice": invoice.stripe_invoice,
        "stripe_line": line.stripe_line or None,
    }
