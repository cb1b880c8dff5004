"""decide() and remedies(): every reason, and that would_admit is what decide would say."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.account import Account, Feature
from metering.domain.decisions import Allowed, Denied, Item, decide
from metering.domain.offers import Offer, OfferTerms
from metering.domain.remedies import remedies
from tests.metering.domain.test_burndown import METER, NOW, START, account, burn, grant, terms

ONE = [Item("calls", METER, 1)]


def offer(key: str = "pro", included: int = 1_000, **fields: Any) -> Offer:
    """A plan that gives more calls, and sso."""
    given_fields: dict[str, Any] = {
        "window": "month",
        "included": included,
        "unlimited": False,
        "over_is_billed": False,
        "overage_limit": None,
    }
    return Offer(key, key.title(), {METER: [OfferTerms(**(given_fields | fields))]}, {"sso": None})


def ask(of: Account, quantity: int = 1, *offers: Offer) -> Allowed | Denied:
    """Decide on some calls."""
    return decide(of, [Item("calls", METER, quantity)], now=NOW, offers=offers)


def test_order_of_reasons() -> None:
    of = account(terms(included=0))
    of.deny_code, of.deny_at = "payment_failed", NOW
    assert ask(replace(of, suspended=True)).code == "customer_suspended"  # type: ignore[union-attr]
    assert ask(of).code == "payment_failed"  # type: ignore[union-attr]
    assert isinstance(ask(replace(of, deny_at=NOW + timedelta(seconds=1))), Denied)
    fine = account(terms())
    fine.deny_code, fine.deny_at = "payment_failed", NOW + timedelta(seconds=1)
    assert isinstance(ask(fine), Allowed)


@pytest.mark.parametrize(
    ("fields", "used", "asked", "code", "retry"),
    [
        ({}, 100, 1, "quota_exhausted", "after_reset"),
        ({}, 0, 101, "quota_exhausted", "never"),
        ({"window": "hour"}, 100, 1, "rate_exceeded", "after_reset"),
        ({"window": "minute"}, 0, 101, "quota_exhausted", "never"),
        ({"window": "lifetime"}, 100, 1, "credits_exhausted", "never"),
        ({"included": 0}, 0, 1, "credits_exhausted", "never"),
        (
            {"over_is_billed": True, "overage_limit": 10},
            110,
            1,
            "spend_limit_reached",
            "after_reset",
        ),
        ({"over_is_billed": True, "overage_limit": 10}, 0, 111, "spend_limit_reached", "never"),
    ],
)
def test_what_a_full_window_is_called(
    fields: dict[str, Any], used: int, asked: int, code: str, retry: str
) -> None:
    of = account(terms(**fields))
    burn(of, used)
    denied = ask(of, asked)
    assert isinstance(denied, Denied)
    assert (denied.code, denied.retry) == (code, retry)


def test_only_holds_in_the_way() -> None:
    of = account(terms())
    burn(of, 100, hold=True)
    of.next_expiry_at = NOW + timedelta(seconds=30)
    denied = ask(of)
    assert isinstance(denied, Denied)
    assert (denied.code, denied.retry) == ("in_flight", "after_in_flight")
    (wait,) = remedies(of, denied, ONE, now=NOW, offers=())
    # How much ends then is not known, so nothing is promised.
    assert (wait.action, wait.at, wait.would_admit) == ("wait", of.next_expiry_at, False)


def test_what_is_left_when_the_rest_was_waited_for_is_named() -> None:
    of = account(terms(), terms(window="day", included=5))
    burn(of, 5)
    denied = ask(of)
    assert isinstance(denied, Denied)
    assert denied.full is not None
    assert (denied.full.terms.window, denied.max_admissible) == ("day", 0)
    burn(of, 91)
    denied = ask(of, 5)
    assert isinstance(denied, Denied)
    assert denied.full is not None
    assert (denied.full.terms.window, denied.max_admissible) == ("month", 0)


def test_what_is_missing() -> None:
    nothing = Account(customer_id=1, version=1)
    assert ask(nothing).code == "no_subscription"  # type: ignore[union-attr]
    sold = replace(nothing, sold=True)
    assert ask(sold, 1, offer()).code == "not_in_plan"  # type: ignore[union-attr]
    assert ask(sold).code == "not_entitled"  # type: ignore[union-attr]
    later = account(terms(starts_at=NOW + timedelta(days=1)))
    assert ask(later).code == "not_entitled"  # type: ignore[union-attr]


def test_features() -> None:
    of = account(terms())
    of.features = {
        "region": Feature("region", "eu", START, None),
        "old": Feature("old", None, START, NOW),
    }
    got = decide(of, [Item("region", None, 0), *ONE], now=NOW, offers=())
    assert isinstance(got, Allowed)
    assert got.value == "eu"
    for name, code in (("old", "not_entitled"), ("sso", "not_in_plan")):
        denied = decide(of, [Item(name, None, 0)], now=NOW, offers=[offer()])
        assert isinstance(denied, Denied)
        assert denied.code == code


def test_remedies_of_an_unpaid_customer() -> None:
    of = account(terms())
    of.deny_code, of.deny_at, of.invoice_url = "payment_failed", NOW, "https://pay.test"
    denied = ask(of)
    assert isinstance(denied, Denied)
    ways = {each.action: each.would_admit for each in remedies(of, denied, ONE, now=NOW, offers=())}
    assert ways == {"pay_invoice": True, "update_payment_method": True}

    burn(of, 100)
    ways = {each.action: each.would_admit for each in remedies(of, denied, ONE, now=NOW, offers=())}
    assert ways == {"pay_invoice": False, "update_payment_method": False}


def test_remedies_of_a_reached_spend_limit() -> None:
    of = account(terms(over_is_billed=True, overage_limit=0, included=1))
    burn(of, 1)
    denied = ask(of)
    assert isinstance(denied, Denied)
    actions = [each.action for each in remedies(of, denied, ONE, now=NOW, offers=())]
    assert actions == ["raise_spend_limit", "wait"]


def test_upgrades_that_help_come_alone_and_else_all_are_told() -> None:
    of = account(terms())
    burn(of, 100)
    offers = [offer("same", 100), offer("pro", 101), offer("scale", 5_000), offer("free", 9)]
    of.plan_key = "free"

    def upgrades(quantity: int) -> list[tuple[str | None, bool]]:
        items = [Item("calls", METER, quantity)]
        denied = decide(of, items, now=NOW, offers=offers)
        assert isinstance(denied, Denied)
        found = remedies(of, denied, items, now=NOW, offers=offers)
        return [(each.plan, each.would_admit) for each in found if each.action == "upgrade"]

    assert upgrades(1) == [("pro", True), ("scale", True)]
    assert upgrades(2) == [("scale", True)]
    assert upgrades(9_999) == [("same", False), ("pro", False), ("scale", False)]


def test_an_offer_with_another_window_begins_afresh() -> None:
    of = account(terms())
    burn(of, 100)
    denied = ask(of)
    assert isinstance(denied, Denied)
    daily = offer("daily", 10, window="day")
    found = remedies(of, denied, ONE, now=NOW, offers=[daily])
    assert [(each.plan, each.would_admit) for each in found if each.plan] == [("daily", True)]
    assert not daily.sells("other", 99)


@given(
    included=st.integers(min_value=0, max_value=50),
    used=st.integers(min_value=0, max_value=60),
    held=st.integers(min_value=0, max_value=60),
    granted=st.integers(min_value=1, max_value=30),
    asked=st.integers(min_value=0, max_value=80),
    limit=st.none() | st.integers(min_value=0, max_value=20),
    billed=st.booleans(),
)
def test_max_admissible_is_exactly_what_would_have_been_admitted(
    *,
    included: int,
    used: int,
    held: int,
    granted: int,
    asked: int,
    limit: int | None,
    billed: bool,
) -> None:
    of = account(
        terms(included=included, over_is_billed=billed, overage_limit=limit),
        grants=(grant(1, granted),),
    )
    burn(of, used)
    burn(of, held, hold=True)
    got = ask(of, asked)
    if isinstance(got, Denied):
        assert got.max_admissible < asked
        assert isinstance(ask(of, got.max_admissible), Allowed)
        assert isinstance(ask(of, got.max_admissible + 1), Denied)


def test_a_denial_of_a_moment_says_nothing_of_another() -> None:
    of = account(terms())
    burn(of, 100)
    later: datetime = START + timedelta(days=31)
    assert isinstance(decide(of, ONE, now=later, offers=()), Allowed)
