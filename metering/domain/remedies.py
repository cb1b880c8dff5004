"""The way out of a denial: what would help, and whether it would admit this very call.

`would_admit` is computed by the same `decide` over the state as the remedy would leave it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from metering.domain.account import Account
from metering.domain.agreed import offers_to
from metering.domain.decisions import Allowed, Denied, Item, decide
from metering.domain.offers import Offer
from metering.domain.upgrades import on_plan
from metering.domain.waiting import wait

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
    at: datetime | None = None,
    closed: Collection[str] = (),
) -> list[Remedy]:
    """List the remedies of a denial, the surest first; empty where only the operator can help.

    `now`, `at` as they were decided on; `closed`: holds of the copy that are given back already.
    """
    at = at or now
    found: list[Remedy] = []
    code = denied.code

    def admits(then: Account) -> bool:
        return isinstance(decide(then, items, now=now, at=at, offers=()), Allowed)

    paid = dataclasses.replace(account, deny_code="", deny_at=None)
    if code in _PAY and account.invoice_url:
        found.append(Remedy("pay_invoice", admits(paid), path=account.invoice_url))
    if code in _CARD:
        found.append(Remedy("update_payment_method", admits(paid), path="/portal/payment-method"))
    if code in _BUY:
        ways = [
            Remedy(
                "upgrade",
                admits(on_plan(account, offer, now=now, at=at)),
                plan=offer.plan_key,
                path=f"/portal/plans/{offer.plan_key}",
            )
            for offer in offers_to(account, offers)
            if offer.plan_key != account.plan_key
            and all(offer.sells(item.name, item.meter_id) for item in items)
        ]
        found += ([each for each in ways if each.would_admit] or ways)[:OFFERS_SHOWN]
    if code == "spend_limit_reached":
        would = admits(_without_cap(account, denied.item))
        found.append(Remedy("raise_spend_limit", would, path=_limits_page(account, denied)))
    waits = wait(account, denied, items, at=at, now=now, closed=closed)
    if waits is not None:
        until, would = waits
        found.append(Remedy("wait", would, at=until))
    return sorted(found, key=lambda remedy: not remedy.would_admit)


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
