"""A customer as it would stand on another plan."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from metering.domain.account import Account, Feature, Terms
from metering.domain.blending import blended_included
from metering.domain.offers import Offer, OfferTerms
from metering.domain.rollover import rolls
from metering.domain.spend_limits import spent
from metering.domain.windows import anchored_window


def on_plan(account: Account, offer: Offer, *, now: datetime, at: datetime) -> Account:
    """The account with the plan from `now` on: the same usage, the other terms.

    They count for a call of an earlier time `at` as well, as those of a plan do that is changed.
    """
    terms = {
        meter_id: [_terms(account, meter_id, each, now=now, at=at) for each in offered]
        for meter_id, offered in offer.meters.items()
    }
    features = {key: Feature(key, value, now, None) for key, value in offer.features.items()}
    there = dataclasses.replace(
        account, sold=True, deny_code="", deny_at=None, terms=terms, features=features, windows={}
    )
    if account.spend_limit is None:
        return there
    # What was spent stays spent; from here on the other plan's prices count.
    limit = account.spend_limit
    start_at, _ = limit.period(now)
    if limit.since != start_at:
        limit = dataclasses.replace(limit, since=start_at, carried=0, before=None)
    there.spend_limit = dataclasses.replace(limit, carried=0)
    carried = spent(account, at=now) - spent(there, at=now)
    there.spend_limit = dataclasses.replace(limit, carried=carried)
    return there


def _terms(
    account: Account, meter_id: int, offered: OfferTerms, *, now: datetime, at: datetime
) -> Terms:
    """The right as it would be: a window that goes on shares what it includes with the old one."""
    same = next(
        (
            each
            for each in account.terms.get(meter_id, ())
            if each.window == offered.window and each.active_at(now)
        ),
        None,
    )
    anchor_at = now if same is None else same.anchor_at
    window = anchored_window(anchor_at, unit=offered.window, at=now)
    blended = offered.included
    if same is not None and not same.unlimited and rolls(offered.window):
        blended = blended_included(
            same.included_until(window[1]),
            old=same.included,
            new=offered.included,
            window=window,
            at=now,
        )
    return Terms(
        meter_id=meter_id,
        window=offered.window,
        anchor_at=anchor_at,
        included=offered.included,
        blended=blended,
        blended_until=window[1],
        unlimited=offered.unlimited,
        over_is_billed=offered.over_is_billed,
        overage_limit=offered.overage_limit,
        starts_at=min(now, at),
        ends_at=None,
        curve=offered.curve if account.spend_limit is not None else None,
    )
