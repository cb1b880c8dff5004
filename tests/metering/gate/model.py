"""What the gate should answer, worked out anew each time from a list of all that was ever taken.

It shares nothing with metering.domain: no balances are kept here, only what was charged and what
paid for it, and every number of an answer is a sum over that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

CALLS, TOKENS = "api.calls", "chat.tokens"
STATUS = {"rate_exceeded": 429, "in_flight": 429, "not_entitled": 403, "customer_suspended": 403}


@dataclass(frozen=True)
class Plan:
    """What a plan gives of one meter: by the month, and perhaps by the hour."""

    included: int
    unlimited: bool = False
    billed: bool = False
    cap: int | None = None
    hourly: int | None = None


@dataclass
class Charge:
    """A quantity that was taken, by a hold or for good, and what grants paid of it."""

    quantity: int
    burned: dict[int, int]
    held: bool
    in_hour: bool


@dataclass
class Given:
    """A grant; gone = expired or void."""

    quantity: int
    order: tuple[float, float, int]
    gone: bool = False


@dataclass(frozen=True)
class Refusal:
    """Why not."""

    code: str
    retry: str = "never"
    max_admissible: int = 0
    lasts: float = math.inf  # days, roughly; 0 = as long as open holds
    meter: str = ""

    @property
    def status(self) -> int:
        """402 unless waiting alone cures it, or nothing does."""
        return STATUS.get(self.code, 402)


@dataclass
class MeterModel:
    """One meter of one customer."""

    plan: Plan | None = None
    charges: list[Charge] = field(default_factory=list)
    grants: dict[int, Given] = field(default_factory=dict)

    def left(self, grant_id: int) -> int:
        """What a grant can still pay."""
        given = self.grants[grant_id]
        spent = sum(each.burned.get(grant_id, 0) for each in self.charges)
        return 0 if given.gone else given.quantity - spent

    def _spare(self) -> int:
        return sum(map(self.left, self.grants))

    def _included_left(self) -> int:
        assert self.plan is not None
        return self.plan.included - sum(c.quantity - sum(c.burned.values()) for c in self.charges)

    def take(self, quantity: int, *, held: bool) -> Charge:
        """Burn what the plan includes, then grants, then overage."""
        burned: dict[int, int] = {}
        if self.plan is not None and not self.plan.unlimited:
            rest = quantity - min(max(self._included_left(), 0), quantity)
            for grant_id in sorted(self.grants, key=lambda each: self.grants[each].order):
                part = min(self.left(grant_id), rest)
                if part:
                    burned[grant_id] = part
                    rest -= part
        in_hour = self.plan is not None and self.plan.hourly is not None
        charge = Charge(quantity, burned, held, in_hour)
        self.charges.append(charge)
        return charge

    def sums(self) -> list[dict[str, Any]]:
        """The balances, the hour's first."""
        if self.plan is None:
            return []
        left, spare = self._included_left(), self._spare()
        used = sum(each.quantity for each in self.charges if not each.held)
        held = sum(each.quantity for each in self.charges if each.held)
        found = [self._sum("month", used, held, max(left, 0) + spare, max(-left, 0))]
        if self.plan.hourly is not None:
            held = sum(each.quantity for each in self.charges if each.held and each.in_hour)
            left = self.plan.hourly - used - held
            found.insert(0, self._sum("hour", used, held, max(left, 0), max(-left, 0)))
        return found

    def _sum(self, window: str, used: int, held: int, remaining: int, over: int) -> dict[str, Any]:
        assert self.plan is not None
        unlimited = self.plan.unlimited and window == "month"
        over = 0 if unlimited else over
        return {
            "window": window,
            "granted": used + held + remaining - over,
            "used": used,
            "held": held,
            "remaining": remaining,
            "overage": over,
            "overage_limit": self.plan.cap if self.plan.billed and window == "month" else 0,
            "unlimited": unlimited,
        }

    def refuse(self, quantity: int) -> Refusal | None:
        """Why this quantity may not be had now; None = it may."""
        if self.plan is None:
            return Refusal("not_entitled")
        limits = [each for each in (self._month(quantity), self._hour(quantity)) if each]
        full = [each for each in limits if each.max_admissible < quantity]
        if not full:
            return None
        # The one that lasts longest is named; of equals the one that admits less, then the month.
        named = max(full, key=lambda each: (each.lasts, -each.max_admissible))
        return replace(named, max_admissible=min(each.max_admissible for each in limits))

    def _month(self, quantity: int) -> Refusal | None:
        plan = self.plan
        assert plan is not None
        if plan.unlimited or (plan.billed and plan.cap is None):
            return None
        cap = (plan.cap or 0) if plan.billed else 0
        left, spare = self._included_left(), self._spare()
        most = max(left + cap, 0) + spare
        open_ = [each for each in self.charges if each.held]
        back = sum(each.quantity - sum(each.burned.values()) for each in open_)
        alive = [key for key, given in self.grants.items() if not given.gone]
        returned = sum(each.burned.get(key, 0) for each in open_ for key in alive)
        if max(left + back + cap, 0) + spare + returned >= quantity:
            return Refusal("in_flight", "after_in_flight", most, 0)
        # Grants that have no end are there next month too; the others are over by then.
        endless = [key for key in alive if self.grants[key].order[1] == math.inf]
        kept = sum(self.left(key) + sum(c.burned.get(key, 0) for c in open_) for key in endless)
        fits = plan.included + cap + kept >= quantity
        retry, lasts = ("after_reset", 30) if fits else ("never", math.inf)
        if plan.billed:
            return Refusal("spend_limit_reached", retry, most, lasts)
        code = "quota_exhausted" if plan.included else "credits_exhausted"
        return Refusal(code, retry, most, lasts)

    def _hour(self, quantity: int) -> Refusal | None:
        assert self.plan is not None
        if self.plan.hourly is None:
            return None
        used = sum(each.quantity for each in self.charges if not each.held)
        held = sum(each.quantity for each in self.charges if each.held and each.in_hour)
        most = max(self.plan.hourly - used - held, 0)
        if self.plan.hourly - used >= quantity:
            return Refusal("in_flight", "after_in_flight", most, 0)
        if self.plan.hourly >= quantity:
            return Refusal("rate_exceeded", "after_reset", most, 1 / 24)
        return Refusal("quota_exhausted", "never", most)


@dataclass
class HoldModel:
    """A hold as it should stand."""

    id: str
    own: str  # the id that it was asked for with
    charges: dict[str, Charge]
    asked: frozenset[str]  # meters
    state: str = "open"
    wish: object = None  # what closed it
    told: Any = None
    used: dict[str, int] = field(default_factory=dict)  # by what settled it
    event: object = None  # the event with its own id


@dataclass
class Known:
    """An id that was admitted, for what, and the answer."""

    wish: object
    told: Any = None


@dataclass
class CustomerModel:
    """All that is known of one customer."""

    meters: dict[str, MeterModel] = field(
        default_factory=lambda: {CALLS: MeterModel(), TOKENS: MeterModel()}
    )
    deny: bool = False
    ids: dict[str, Known] = field(default_factory=dict)
    holds: list[HoldModel] = field(default_factory=list)

    def refuse(self, wanted: Mapping[str, int]) -> Refusal | None:
        """All items or none: the one is named that lasts longest, of equals the first."""
        if self.deny:
            return Refusal("payment_failed", meter=next(iter(wanted)))
        found = [
            replace(refusal, meter=meter)
            for meter, quantity in wanted.items()
            if (refusal := self.meters[meter].refuse(quantity)) is not None
        ]
        missing = [each for each in found if each.code == "not_entitled"]
        return max(missing or found, key=lambda each: each.lasts, default=None)

    def sums(self, wanted: Mapping[str, int]) -> list[dict[str, Any]]:
        """The balances of some meters."""
        return [{"meter": m} | each for m in wanted for each in self.meters[m].sums()]

    def free(self, hold: HoldModel) -> None:
        """What a hold reserves is free again."""
        for meter, charge in hold.charges.items():
            self.meters[meter].charges.remove(charge)
        hold.charges = {}

    def fate(self, hold: HoldModel, id_: str, wish: object, meter: str, quantity: int) -> str:
        """What becomes of an event that names a hold, or the code that it is refused with."""
        known = self.ids.get(id_)
        before = hold.event if id_ == hold.own else known and known.wish
        if before == wish:
            return "duplicate"
        if before is not None and id_ != hold.own:
            return "id_reused"
        if hold.state == "released":
            return "hold_released"
        if hold.state != "settled":
            return "accepted" if meter in hold.asked else "meter_unknown"
        if id_ != hold.own:
            return "accepted"
        used = {meter: quantity} if meter in hold.asked else {}
        return "duplicate" if used == hold.used else "id_reused"

    def settle_by(self, hold: HoldModel, id_: str, wish: object, meter: str, quantity: int) -> None:
        """An event that names a hold was accepted: the first one settles it."""
        if hold.state != "settled":
            self.free(hold)
            hold.state, hold.wish, hold.used = "settled", object(), {meter: quantity}
        self.meters[meter].take(quantity, held=False)
        if id_ == hold.own:
            hold.event = wish
        else:
            self.ids[id_] = Known(wish)
