"""What was agreed with a customer, in the terms of a plan that is on sale."""

from __future__ import annotations

from typing import Any

import pytest

from metering.domain.account import Account
from metering.domain.agreed import Agreed, offers_to, with_agreed
from metering.domain.decisions import Denied, Item, decide
from metering.domain.offers import Offer, OfferTerms
from tests.metering.domain.test_burndown import METER, NOW
from tests.metering.domain.test_spend_limits import CENT_EACH, OTHER

MONTH = OfferTerms("month", 100, unlimited=False, over_is_billed=False, overage_limit=None)
MINUTE = OfferTerms("minute", 10, unlimited=False, over_is_billed=False, overage_limit=None)
PRO = Offer("pro", "Pro", {METER: [MONTH, MINUTE]}, {"sso": None, "region": "eu"}, period="week")


def of(terms: dict[str, Any] | None = None, meter: int = METER) -> Offer:
    """The plan with one right otherwise; None: without it."""
    return with_agreed(PRO, [Agreed(meter, denied=terms is None, terms=terms or {})])


def windows(offer: Offer, meter: int = METER) -> dict[str, int]:
    """What the plan includes in which window."""
    return {each.window: each.included for each in offer.meters.get(meter, ())}


def test_only_what_was_agreed_is_otherwise() -> None:
    assert windows(of({"included": 500})) == {"month": 500, "minute": 10}
    assert windows(of({"included": 50, "window": "minute"})) == {"month": 100, "minute": 50}
    assert windows(of({"included": 5, "window": "day"})) == {"month": 5, "minute": 10}
    assert windows(of({"included": 5, "window": "hour"})) == {"month": 100, "minute": 10, "hour": 5}
    (right,) = [each for each in of({"unlimited": True}).meters[METER] if each.window == "month"]
    assert (right.unlimited, right.included, right.over_is_billed) == (True, 100, False)


def test_what_the_plan_lacks_is_added() -> None:
    assert windows(of({"included": 7}, OTHER), OTHER) == {"week": 7}
    assert windows(of({"included": 7, "window": "day"}, OTHER), OTHER) == {"day": 7}
    (right,) = of({"over": "bill", "curve": CENT_EACH.to_json()}, OTHER).meters[OTHER]
    assert (right.included, right.over_is_billed, right.curve) == (0, True, CENT_EACH)


def test_what_was_taken_away_is_not_there() -> None:
    assert windows(of()) == {"minute": 10}
    both = [Agreed(METER, denied=True), Agreed(METER, denied=True, terms={"window": "minute"})]
    assert METER not in with_agreed(PRO, both).meters
    assert METER in with_agreed(PRO, [Agreed(OTHER, denied=True)]).meters


@pytest.mark.parametrize(
    ("agreed", "features"),
    [
        (Agreed(None, "sso", denied=True), {"region": "eu"}),
        (Agreed(None, "audit"), {"sso": None, "region": "eu", "audit": None}),
        (Agreed(None, "region", terms={"value": "us"}), {"sso": None, "region": "us"}),
    ],
)
def test_features_too(agreed: Agreed, features: dict[str, str | None]) -> None:
    assert with_agreed(PRO, [agreed]).features == features
    assert Agreed.from_json(agreed.to_json()) == agreed


def test_what_a_customer_has_agreed_is_in_all_plans_on_sale() -> None:
    of = Account(customer_id=1, version=1, sold=True)
    assert offers_to(of, [PRO]) == [PRO]
    sso = [Item("sso", None, 0)]
    assert _code(of, sso) == "not_in_plan"
    of.agreed = [Agreed(None, "sso", denied=True).to_json()]
    assert _code(of, sso) == "not_entitled"
    of.agreed = [Agreed(OTHER, terms={"included": 1}).to_json()]
    assert _code(of, [Item("tokens", OTHER, 1)]) == "not_in_plan"


def _code(of: Account, items: list[Item]) -> str:
    denied = decide(of, items, now=NOW, offers=[PRO])
    assert isinstance(denied, Denied)
    return denied.code
