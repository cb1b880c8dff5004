"""What an operator key may do: the names of the scopes and what each one implies."""

from __future__ import annotations

from collections.abc import Iterable

SCOPES: dict[str, str] = {
    "customers:read": "See customers, their members and the prefixes of their API keys.",
    "customers:write": "Create, change, suspend and resume customers; invite members.",
    "keys:write": "Issue, rotate and revoke customers' API keys.",
    "gateways:read": "See gateways and their routes.",
    "gateways:write": "Create and disable gateways, set routes, rotate and revoke their keys.",
    "meters:read": "See meters.",
    "meters:write": "Define and archive meters.",
    "plans:read": "See plans, their versions and prices, and coupons.",
    "plans:write": "Create, activate and archive plans and versions; create and archive coupons.",
    "subscriptions:read": "See subscriptions, overrides, and what a change would cost.",
    "subscriptions:write": "Start, change, pause, resume and cancel subscriptions; "
    "agree on overrides, redeem coupons and limit spending.",
    "grants:write": "Give and void quantities.",
    "invoices:read": "See invoices and their lines.",
    "invoices:write": "Void invoices, mark them uncollectible, issue credit notes, grant credit.",
    "reports:read": "Read usage, balances and finance reports.",
    "events:read": "Read usage events and decisions.",
    "events:write": "Correct usage events, and supply those of a range anew.",
    "admin": "Everything, operator keys and the audit included.",
}
ADMIN = "admin"


class ScopeUnknown(ValueError):
    """A scope that does not exist was asked for; the sentence names those that do."""

    param = "scopes"


def allows(held: Iterable[str], needed: str) -> bool:
    """Whether the scopes held cover the one needed: `admin` all, `x:write` also `x:read`."""
    covering = {ADMIN, needed}
    area, _, verb = needed.partition(":")
    if verb == "read":
        covering.add(f"{area}:write")
    return not covering.isdisjoint(held)


def checked_scopes(asked: Iterable[str]) -> list[str]:
    """Return the scopes without repeats, in the order of the table; raises ScopeUnknown."""
    wanted = set(asked)
    unknown = sorted(wanted - SCOPES.keys())
    if unknown:
        known = ", ".join(SCOPES)
        raise ScopeUnknown(f"There is no scope {', '.join(unknown)}; there are: {known}.")
    if not wanted:
        raise ScopeUnknown(
            f"A key without scopes could do nothing; there are: {', '.join(SCOPES)}."
        )
    return [scope for scope in SCOPES if scope in wanted]
