"""Events that name a hold: the first one settles it, with what it counts as.

Such an event is counted like any other, under its own id. What the hold reserved is free from then
on, so whatever else names it is counted as what it is: more usage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from accounts.domain import ids
from metering.domain.account import HoldState
from metering.domain.aggregates import Counted
from metering.gate import answers, holds
from metering.gate.calls import DUPLICATE, Fate, Used, Work
from metering.gate.catalogue import Catalogue
from metering.gate.copied import Found
from metering.gate.rows import EventRow
from metering.gate.wire import Problem


class _Closing(msgspec.Struct):
    """What the settling of a hold was answered, as far as it is compared."""

    items: list[dict[str, Any]] = []


@dataclass(slots=True)
class Settled:
    """A hold that an event names. `before`: something else had settled it already."""

    key: str
    hold: HoldState
    actual: dict[int, int]  # what the event counts as on the hold's meters
    before: bool
    closing: str | None  # what was answered then

    def repeated(self, catalogue: Catalogue) -> Fate:
        """The fate of an event with the hold's own id: the same usage is the same report."""
        items = msgspec.json.decode(self.closing, type=_Closing).items if self.closing else []
        mine = [
            {"meter": catalogue.meters_by_id[meter_id].key, "quantity": quantity}
            for meter_id, quantity in self.actual.items()
        ]
        if sorted(items, key=str) == sorted(mine, key=str):
            return DUPLICATE
        raise Problem(
            "id_reused", "The hold was settled before with another quantity.", param="data.hold"
        )

    def close(self, work: Work, row: EventRow, *, catalogue: Catalogue, now: datetime) -> None:
        """Note by which event it was settled, and in the event how, once that is counted."""
        body, _ = holds.settled_by(
            work, self.hold, self.actual, row, key=self.key, catalogue=catalogue, now=now
        )
        row.from_hold = self.key == row.id
        print_, closing = answers.fingerprint("event", row.id), answers.encode(body)
        holds.close(work, self.key, closing=closing, fingerprint=print_)
        # Where the event has the hold's own id, a repeat of either is told from the other by this.
        used = work.used[row.id] if row.from_hold else Used(print_)
        used.closing = closing
        work.used[self.key] = used


def settle(
    work: Work,
    key: str,
    usage: Mapping[str, Counted],
    found: Mapping[tuple[int, str], Found],
) -> Settled:
    """Free the hold that an event of such usage names, unless it was settled; raises Problem."""
    hold = holds.hold_of(work, key, found)
    if hold is None:
        raise Problem("not_found", "The customer has no such hold.", param="data.hold")
    # Another call of this very batch may have closed it; one that extended it has not.
    row = work.rare.closings.get(key)
    state = hold.state if row is None else row.state
    if state == "released":
        raise Problem("hold_released", "The hold was released.", param="data.hold")
    actual = {int(meter): int(value) for meter, value in usage.items() if meter in hold.items}
    if state == "settled":
        closing = hold.closing if row is None else row.closing
        return Settled(key, hold, actual, before=True, closing=closing)
    if not actual:
        raise Problem("meter_unknown", "The event counts on no meter of the hold.")
    holds.free(work, key, hold)
    return Settled(key, hold, actual, before=False, closing=None)


def hold_named(data: Mapping[str, Any], *, of: int) -> str | None:
    """The key of the hold that an event of that customer names, if any; raises Problem."""
    if "hold" not in data:
        return None
    told = data["hold"]
    try:
        customer_id, key = ids.decode_owned("hold", told if isinstance(told, str) else "")
    except ids.IdMalformed as error:
        raise Problem("not_found", "That is not a hold's id.", param="data.hold") from error
    if customer_id != of:
        raise Problem("not_found", "The customer has no such hold.", param="data.hold")
    return key.hex
