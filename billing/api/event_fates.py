"""The whole fate of a usage event: from what it counted as to the line that charges it."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.authentication import CallerKind
from accounts.api.describing import describe
from accounts.api.views import ManagementView
from accounts.domain import ids
from billing.models import InvoiceLine
from billing.queries.event_fates import BilledFate, whole_fate
from metering.api.events import EventShape, FateShape, MeterFateShape, fate_body
from metering.models import UsageEvent


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
    """An event and all that became of it."""

    fate = WholeFateShape()


class OneEvent(ManagementView):
    """One usage event and its fate; a customer's key sees its own."""

    callers: ClassVar[frozenset[CallerKind]] = frozenset({"operator", "customer"})
    scopes = {"GET": "events:read"}

    @describe("See an event's fate", answer=EventWholeFateShape)
    def get(self, request: Request, event: str) -> Response:  # noqa: ARG002
        """See an event and all that became of it, up to its invoice line, or where it stopped."""
        self.query()
        customer_id, key = ids.decode_owned(UsageEvent.PREFIX, event)
        own = self.caller.customer_id in {None, customer_id}
        fate = whole_fate(customer_id, event_id=key) if own else None
        if fate is None:
            raise Http404("There is no such event.")
        body = fate_body(fate.metered)
        for shown, counted in zip(body["fate"]["meters"], fate.metered.meters, strict=True):
            shown.update(_billed_body(fate.billed[counted.meter.id]))
        body["fate"]["former_meters"] = [
            {"meter": meter.key, **_billed_body(fate.billed[meter.id])} for meter in fate.former
        ]
        if self.caller.customer_id is not None:
            for each in body["fate"]["corrections"]:
                each["actor"] = "operator"  # who of them it was is the operator's affair
        return Response(body)


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
