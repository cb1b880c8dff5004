"""How the fate of an event is told on a page: to the customer whose it is, and to operators."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from accounts.domain import ids
from accounts.models import Gateway
from billing.models import InvoiceLine
from billing.pages import wording
from billing.queries.event_fates import BilledFate, RefusedFate, WholeFate
from metering.api.quarantine import quarantine_fate_body, stopped
from metering.domain.windows import FOREVER
from metering.models import Backfill, Grant, Hold, Meter, UsageEvent
from metering.queries.events import MeterFate

_STATES: Final = {
    "": wording.Tag("Counted", "good"),
    "refused": wording.Tag("Refused", "bad"),
    "discarded": wording.Tag("Discarded", "bad"),
    "amend": wording.Tag("Amended", "warn"),
    "void": wording.Tag("Voided", "bad"),
    "restore": wording.Tag("Restored", "warn"),
    "repay": wording.Tag("Counted", "good"),
}
_SAID: Final = {
    "amend": "Amended",
    "void": "Voided",
    "restore": "Restored, since a backfill was undone",
    "repay": "Paid by other grants, since another event was corrected",
}


@dataclass(frozen=True, slots=True)
class Window:
    """A window in which it counted; `end_at` None: it never ends."""

    name: str
    start_at: datetime
    end_at: datetime | None
    used: int


@dataclass(frozen=True, slots=True)
class Charge:
    """The line of an invoice that it is part of."""

    line: InvoiceLine
    amount: str

    @property
    def invoice(self) -> str:
        """The invoice's public id."""
        return self.line.invoice.public_id

    @property
    def name(self) -> str:
        """How people call the invoice."""
        return self.line.invoice.number or "the coming invoice"


@dataclass(frozen=True, slots=True)
class OnMeter:
    """What became of it on one meter; `counted` empty: it counts there no longer."""

    name: str
    counted: str
    bucket_at: datetime | None = None
    rolled_up: bool = False
    dimensions: list[tuple[str, str]] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    grants: list[tuple[str, int]] = field(default_factory=list)
    charged: Charge | None = None
    adjusted: Charge | None = None
    stopped: str = ""


@dataclass(frozen=True, slots=True)
class Fix:
    """A correction, the latest first."""

    at: datetime
    words: str
    counts: str
    reason: str
    actor: str


def told(fate: WholeFate) -> dict[str, Any]:
    """What the pages show of an event."""
    event, standing = fate.metered.event, fate.metered.standing
    kind = standing.correction.kind if standing.correction is not None else ""
    keys = dict(Meter.objects.filter(id__in=fate.billed).values_list("id", "key"))
    properties = standing.properties or {}
    return {
        "event": event,
        "public_id": public_id(event),
        "state": _STATES[kind],
        "stopped": fate.metered.stopped,
        "quarantined": fate.metered.quarantined,
        "properties": [(name, _text(value)) for name, value in sorted(properties.items())],
        "gateway": None
        if event.gateway_id is None
        else ids.encode(Gateway.PREFIX, event.gateway_id),
        "backfill": None
        if fate.metered.backfill_id is None
        else ids.encode(Backfill.PREFIX, fate.metered.backfill_id),
        "hold": fate.metered.hold,
        "hold_id": None if fate.metered.hold is None else _hold_id(fate.metered.hold),
        "meters": [
            *(_on_meter(each, fate.billed[each.meter.id]) for each in fate.metered.meters),
            *(_formerly(each, fate.billed[each.id]) for each in fate.former),
        ],
        "fixes": [
            Fix(each.at, _SAID[each.kind], _counts(each.usage, keys), each.reason, each.actor)
            for each in reversed(fate.metered.corrections)
        ],
        "reported": _counts(event.usage, keys),
    }


def told_refused(fate: RefusedFate, *, operator: bool) -> dict[str, Any]:
    """What the pages show of an event that was refused and kept."""
    row = fate.row
    state = ""
    if row.state in {row.State.WAITING, row.State.DISCARDED}:
        state = "discarded" if row.state == row.State.DISCARDED else "refused"
    shown = row.properties if operator or not row.shape else {}
    return {
        "row": row,
        "customer": fate.customer,
        "state": _STATES[state],
        "quarantine": quarantine_fate_body(row, operator=operator),
        "stopped": stopped(row, operator=operator),
        "properties": [(name, _text(value)) for name, value in sorted(shown.items())],
        "gateway": None if row.gateway_id is None else ids.encode(Gateway.PREFIX, row.gateway_id),
    }


def row(standing: Any, keys: dict[int, str]) -> dict[str, Any]:
    """An event in a list; `keys`: those of the meters by id."""
    kind = standing.correction.kind if standing.correction is not None else ""
    return {
        "event": standing.event,
        "public_id": public_id(standing.event),
        "state": _STATES[kind],
        "counts": _counts(standing.usage, keys),
    }


def public_id(event: UsageEvent) -> str:
    """An event's id as the API shows it."""
    return ids.encode_owned(UsageEvent.PREFIX, customer_id=event.customer_id, key=event.id)


def _hold_id(hold: Hold) -> str:
    return ids.encode_owned(Hold.PREFIX, customer_id=hold.customer_id, key=hold.id)


def _counts(usage: dict[str, int | str], keys: dict[int, str]) -> str:
    """`1,200 chat.tokens, one user of seats`; `nothing`."""
    said = [
        f"{keys[int(number)]} {counted:,}"
        if isinstance(counted, int)
        else f"{keys[int(number)]} “{counted}”"
        for number, counted in sorted(usage.items(), key=lambda each: keys[int(each[0])])
    ]
    return ", ".join(said) or "nothing"


def _on_meter(fate: MeterFate, billed: BilledFate) -> OnMeter:
    counted = fate.counted
    return OnMeter(
        name=fate.meter.key,
        counted=f"{counted:,} {fate.meter.unit}" if isinstance(counted, int) else f"“{counted}”",
        bucket_at=fate.bucket_at,
        rolled_up=fate.rolled_up,
        dimensions=sorted(fate.dimensions.items()),
        windows=[
            Window(
                name=each.window,
                start_at=each.start_at,
                end_at=None if each.end_at >= FOREVER else each.end_at,
                used=each.used,
            )
            for each in fate.windows
        ],
        grants=[
            (ids.encode(Grant.PREFIX, number), quantity)
            for number, quantity in sorted(fate.grants.items())
        ],
        charged=_charge(billed.line),
        adjusted=_charge(billed.adjusted),
        stopped=billed.stopped,
    )


def _formerly(meter: Meter, billed: BilledFate) -> OnMeter:
    return OnMeter(
        name=meter.key,
        counted="",
        charged=_charge(billed.line),
        adjusted=_charge(billed.adjusted),
        stopped=billed.stopped,
    )


def _charge(line: InvoiceLine | None) -> Charge | None:
    if line is None:
        return None
    return Charge(line, wording.money(line.amount, line.invoice.currency))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)
