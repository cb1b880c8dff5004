"""What plans that are on sale would give, as billing published them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metering.domain.spending import Curve


@dataclass(frozen=True, slots=True)
class OfferTerms:
    """What a plan that is on sale would give of one meter in one of its windows."""

    window: str
    included: int
    unlimited: bool
    over_is_billed: bool
    overage_limit: int | None
    curve: Curve | None = None  # what overage costs


@dataclass(frozen=True, slots=True)
class Offer:
    """A plan that is on sale, as billing published it; cheapest first in lists."""

    plan_key: str
    plan_name: str
    meters: Mapping[int, Sequence[OfferTerms]]
    features: Mapping[str, str | None]
    period: str = "month"  # the plan's own

    def sells(self, name: str, meter_id: int | None) -> bool:
        """Whether the plan has the meter, or where there is none the feature of that name."""
        return name in self.features if meter_id is None else meter_id in self.meters
