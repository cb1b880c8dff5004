"""What overage costs, exactly, and a customer's limit on it.

Whoever sells (billing) turns each of its prices into a *curve*: steps that meet at their edges, on
each of which the cost is a base amount plus so much for every package that is begun. That is all
the gate needs to know of prices, and it computes with whole numbers: amounts are in trillionths of
the currency's major unit, which no price divides further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any, Final, Self

from metering.domain.windows import anchored_window

PLACES: Final = 12
MAJOR: Final = 10**PLACES  # trillionths in one dollar


class CurveInvalid(Exception):
    """These steps are not a curve: they must rise, and only the last one has no end."""


@dataclass(frozen=True, slots=True)
class Step:
    """Quantities up to and with `up_to` (None: all that follow) cost
    `base + unit_price * ceil((quantity - origin) / size)`; amounts in trillionths."""

    up_to: int | None
    base: int
    unit_price: int
    origin: int = 0
    size: int = 1

    def cost(self, quantity: int) -> int:
        """What the quantity, which lies on this step, costs."""
        return self.base + self.unit_price * -(-(quantity - self.origin) // self.size)


@dataclass(frozen=True, slots=True)
class Curve:
    """What a quantity of overage costs. On one step more never costs less."""

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        ends = [step.up_to for step in self.steps]
        bounded = [0, *(end for end in ends[:-1] if end is not None)]
        rises = all(left < right for left, right in pairwise(bounded))
        if not ends or ends[-1] is not None or len(bounded) != len(ends) or not rises:
            raise CurveInvalid("the steps of a curve rise, and only the last one has no end")

    def cost(self, quantity: int) -> int:
        """What `quantity` units cost together, in trillionths; nothing costs nothing."""
        if quantity <= 0:
            return 0
        for step in self.steps[:-1]:
            if step.up_to is not None and quantity <= step.up_to:
                return step.cost(quantity)
        return self.steps[-1].cost(quantity)

    def edges(self, low: int, high: int) -> list[int]:
        """Where a step begins in `(low, high]`, falling, and `low` last."""
        starts = [step.up_to + 1 for step in self.steps if step.up_to is not None]
        return [*(at for at in reversed(starts) if low < at <= high), low]

    def to_json(self) -> list[list[Any]]:
        """`[[up_to, base, unit_price, origin, size], …]`; amounts as whole numbers in texts."""
        return [
            [step.up_to, str(step.base), str(step.unit_price), step.origin, step.size]
            for step in self.steps
        ]

    @classmethod
    def from_json(cls, data: Sequence[Sequence[Any]]) -> Self:
        """The inverse of `to_json`."""
        return cls(
            tuple(
                Step(up_to, int(base), int(unit_price), origin, size)
                for up_to, base, unit_price, origin, size in data
            )
        )


@dataclass(frozen=True, slots=True)
class SpendLimit:
    """How much overage may cost in one billing period. Amounts in minor units of the currency.

    The period is the `window` of the anchor. An invoice line is rounded to multiples of `step`;
    `exponent` says how many minor units a major one has. What is known of the period that began at
    `since`: `carried` was spent in it under earlier terms, and of windows that began before it
    `before` units of a meter were past what was included already. `paid`: of the window of a meter
    that begins at that second so many units were paid by grants under other windows, before the
    terms changed; its balance does not know of them. (meter, second, units)
    """

    customer: int | None  # set by the customer
    operator: int | None
    window: str
    anchor_at: datetime
    exponent: int = 2
    step: int = 1
    since: datetime | None = None
    carried: int = 0
    before: Mapping[int, int] | None = None
    paid: tuple[tuple[int, int, int], ...] = ()

    @property
    def cap(self) -> int | None:
        """The lower of the two; None where nothing is limited any more."""
        return min(
            (each for each in (self.customer, self.operator) if each is not None), default=None
        )

    @property
    def set_by(self) -> str:
        """Whose limit it is that counts: the customer's where both are equal."""
        if self.customer is not None and self.customer == self.cap:
            return "customer"
        return "operator"

    def raised(self) -> Self:
        """The limit without the one that counts: the operator's stays when the customer's goes."""
        if self.set_by == "customer":
            return replace(self, customer=None)
        return replace(self, customer=None, operator=None)

    def period(self, at: datetime) -> tuple[datetime, datetime]:
        """The billing period that contains `at`."""
        return anchored_window(self.anchor_at, unit=self.window, at=at)

    def rounded(self, amount: int) -> int:
        """Trillionths as minor units, half up, to what can be paid: as an invoice line."""
        unit: int = self.step * MAJOR // 10**self.exponent
        return (2 * amount + unit) // (2 * unit) * self.step

    def to_json(self) -> dict[str, Any]:
        """The form in which it is stored."""
        return {
            "customer": self.customer,
            "operator": self.operator,
            "window": self.window,
            "anchor_at": self.anchor_at.isoformat(),
            "exponent": self.exponent,
            "step": self.step,
            "since": self.since.isoformat() if self.since else None,
            "carried": self.carried,
            "before": {str(meter_id): n for meter_id, n in (self.before or {}).items()},
            "paid": [list(each) for each in self.paid],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        since = data["since"]
        return cls(
            customer=data["customer"],
            operator=data["operator"],
            window=data["window"],
            anchor_at=datetime.fromisoformat(data["anchor_at"]),
            exponent=data["exponent"],
            step=data["step"],
            since=datetime.fromisoformat(since) if since else None,
            carried=data["carried"],
            before={int(meter_id): n for meter_id, n in data["before"].items()},
            # Limits that were stored before there was such a thing have none.
            paid=tuple((meter, second, n) for meter, second, n in data.get("paid", ())),
        )
