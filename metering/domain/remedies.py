"""The way out of a denial: what would help, and whether it would admit this very call.

`would_admit` is computed by the same `decide` over the state as the remedy would leave it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from metering.domain.account import Account, Feature, Terms
from metering.domain.blending import blended_included
from metering.domain.decisions import Allowed, Denied, Item, Offer, decide
from metering.domain.rollover import rolls
from metering.domain.spend_limits import spent
from metering.domain.windows import anchored_window

OFFERS_SHOWN = 3
_PAY = frozenset({"payment_failed", "payment_action_required", "subscription_inactive"})
_CARD = frozenset({"payment_failed", "payment_method_missing", "trial_ended"})
_BUY = frozenset(
    {
        "no_subscription",
        "subscription_inactive",
        "trial_ended",
        "quota_exhausted",
        "credits_exhausted",
        "spend_limit_reached",
        "not_in_plan",
        "rate_exceeded",
    }
)


@dataclass(frozen=True, slots=True)
class Remedy:
    """One way out. `path` is relative to the portal, or an absolute address."""

    action: str
    would_admit: bool
    plan: str | None = None
    path: str | None = None
    at: datetime | None = None


def remedies(
    account: Account,
    denied: Denied,
    items: Sequence[Item],
    *,
    now: datetime,
    offers: Sequence[Offer],
) -> list[Remedy]:
    """List the remedies of a denial, the surest first; empty where only the operator can help."""
    found: list[Remedy] = []
    code = denied.code
    if code in _PAY and account.invoice_url:
        found.append(Remedy("pay_invoice", _if_paid(account, items, now), path=account.invoice_url))
    if code in _CARD:
        would = _if_paid(account, items, now)
        found.append(Remedy("update_payment_method", would, path="/portal/payment-method"))
    if code in _BUY:
        found += _upgrades(account, items, now, offers)
    if code == "spend_limit_reached":
        would = _admits(_without_cap(account, denied.item), items, now)
        found.append(Remedy("raise_spend_limit", would, path=_limits_page(account, denied)))
    resets_at = denied.full.resets_at if denied.full is not None else denied.resets_at
    if denied.retry == "after_reset" and resets_at is not None:
        found.append(Remedy("wait", _admits(account, items, resets_at), at=resets_at))
    elif denied.retry == "after_in_flight":
        would = _admits(account.without_holds(), items, now)
        found.append(Remedy("wait", would, at=account.next_expiry_at))
    return sorted(found, key=lambda remedy: not remedy.would_admit)


def _upgrades(
    account: Account, items: Sequence[Item], now: datetime, offers: Sequence[Offer]
) -> list[Remedy]:
    found = []
    for offer in offers:
        if offer.plan_key == account.plan_key or not all(offer.sells(item) for item in items):
            continue
        would = _admits(_on(account, offer, now), items, now)
        path = f"/portal/plans/{offer.plan_key}"
        found.append(Remedy("upgrade", would, plan=offer.plan_key, path=path))
    helpful = [remedy for remedy in found if remedy.would_admit]
    return (helpful or found)[:OFFERS_SHOWN]


def _if_paid(account: Account, items: Sequence[Item], now: datetime) -> bool:
    return _admits(dataclasses.replace(account, deny_code="", deny_at=None), items, now)


def _admits(account: Account, items: Sequence[Item], at: datetime) -> bool:
    return isinstance(decide(account, items, now=at, offers=()), Allowed)


def _without_cap(account: Account, item: Item) -> Account:
    """The account when the cap on what the customer may owe for the item is gone.

    Of two spend limits the lower one goes; the operator's stays when the customer's was lower.
    """
    assert item.meter_id is not None
    own = [dataclasses.replace(each, overage_limit=None) for each in account.terms[item.meter_id]]
    limit = account.spend_limit
    return dataclasses.replace(
        account,
        terms=account.terms | {item.meter_id: own},
        spend_limit=limit.raised() if limit is not None else None,
    )


def _limits_page(account: Account, denied: Denied) -> str | None:
    """Where the customer raises it; None where only the operator can."""
    if denied.full is not None or account.spend_limit is None:
        return "/portal"
    return "/portal/spend-limit" if account.spend_limit.set_by == "customer" else None


def _on(account: Account, offer: Offer, now: datetime) -> Account:
    """The account as it would stand on another plan: the same usage, the other terms."""
    terms: dict[int, list[Terms]] = {}
    for meter_id, offered in offer.meters.items():
        same = next(
            (each for each in account.terms.get(meter_id, ()) if each.window == offered.window),
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
        terms[meter_id] = [
            Terms(
                meter_id=meter_id,
                window=offered.window,
                anchor_at=anchor_at,
                included=offered.included,
                blended=blended,
                blended_until=window[1],
                unlimited=offered.unlimited,
                over_is_billed=offered.over_is_billed,
                overage_limit=offered.overage_limit,
                starts_at=now,
                ends_at=None,
                curve=offered.curve if account.spend_limit is not None else None,
            )
        ]
    features = {key: Feature(key, value, now, None) for key, value in offer.features.items()}
    there = dataclasses.replace(
        account, sold=True, deny_code="", deny_at=None, terms=terms, features=features
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
