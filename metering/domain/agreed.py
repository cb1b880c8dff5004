"""What was agreed with one customer: terms that hold on whatever plan the customer is on.

Billing tells them beside the rights that it makes of them, so that a denial can say what another
plan would give this customer: that plan's terms, with these in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from metering.domain.account import Account
from metering.domain.offers import Offer, OfferTerms
from metering.domain.spending import Curve
from metering.domain.windows import RATE_UNITS

_NOTHING: Final = OfferTerms("period", 0, False, False, None)  # noqa: FBT003


@dataclass(frozen=True, slots=True)
class Agreed:
    """Terms of one right, to a meter or to a feature; `denied`: there is no such right.

    `terms` has those members that are otherwise: of a meter `included`, `unlimited`, `over`,
    `overage_limit`, `window` (which tells the minute's or the hour's right from the longer one)
    and `curve`, of a feature `value`.
    """

    meter_id: int | None
    feature: str = ""
    denied: bool = False
    terms: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "meter": self.meter_id,
            "feature": self.feature,
            "denied": self.denied,
            "terms": dict(self.terms),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Agreed:
        """As `to_json` wrote it."""
        return cls(stored["meter"], stored["feature"], stored["denied"], stored["terms"])


def offers_to(account: Account, offers: Sequence[Offer]) -> Sequence[Offer]:
    """The plans on sale as the customer would have them."""
    if not account.agreed:
        return offers
    agreed = [Agreed.from_json(each) for each in account.agreed]
    return [with_agreed(each, agreed) for each in offers]


def with_agreed(offer: Offer, agreed: Sequence[Agreed]) -> Offer:
    """The plan as this customer would have it."""
    meters = {meter_id: list(offered) for meter_id, offered in offer.meters.items()}
    features = dict(offer.features)
    for each in agreed:
        if each.meter_id is None:
            features.pop(each.feature, None)
            if not each.denied:
                features[each.feature] = each.terms.get("value")
            continue
        rights = meters.pop(each.meter_id, [])
        slot = _slot(each.terms.get("window", "period"))
        others = [right for right in rights if _slot(right.window) != slot]
        mine = next((right for right in rights if _slot(right.window) == slot), None)
        if not each.denied:
            others.append(_changed(mine, each.terms, period=offer.period))
        if others:
            meters[each.meter_id] = others
    return replace(offer, meters=meters, features=features)


def _slot(window: str) -> str:
    """What a meter has one right of: a rate window, and the longer one."""
    return window if window in RATE_UNITS else "long"


def _changed(plans: OfferTerms | None, terms: Mapping[str, Any], *, period: str) -> OfferTerms:
    """A plan's own right goes on counting in its own windows."""
    window = terms.get("window", "period") if plans is None else plans.window
    right = plans or _NOTHING
    curve = terms.get("curve")
    return OfferTerms(
        window=period if window == "period" else window,
        included=terms.get("included", right.included),
        unlimited=terms.get("unlimited", right.unlimited),
        over_is_billed=terms["over"] == "bill" if "over" in terms else right.over_is_billed,
        overage_limit=terms.get("overage_limit", right.overage_limit),
        curve=right.curve if curve is None else Curve.from_json(curve),
    )
