"""Holding what we keep of money against what Stripe keeps, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Compared(StrEnum):
    """What is compared."""

    INVOICE = "invoice"
    PAYMENT = "payment"  # all that came in for one invoice
    REFUND = "refund"
    DISPUTE = "dispute"


class How(StrEnum):
    """In which way two records differ."""

    MISSING_HERE = "missing_here"
    MISSING_THERE = "missing_there"
    AMOUNT = "amount"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class Kept:
    """One thing as one side keeps it; `amount` in minor units of `currency`.

    `subject`: what people look for, such as an invoice's public id; "" where that is unknown.
    """

    amount: int
    currency: str
    status: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """`here` and `there` in words; "" on the side where it is missing."""

    kind: Compared
    how: How
    stripe_id: str
    subject: str
    here: str
    there: str


def differences(
    kind: Compared, ours: Mapping[str, Kept], theirs: Mapping[str, Kept]
) -> list[Difference]:
    """All that differs, by Stripe's ids in their order. Both sides equal: nothing."""
    return [
        found
        for key in sorted(ours.keys() | theirs.keys())
        for found in _compare(kind, key, ours.get(key), theirs.get(key))
    ]


def _compare(kind: Compared, key: str, here: Kept | None, there: Kept | None) -> list[Difference]:
    if here is None or there is None:
        how = How.MISSING_HERE if here is None else How.MISSING_THERE
        subject = (here or there or Kept(0, "")).subject
        return [Difference(kind, how, key, subject, _words(here), _words(there))]
    found = []
    if (here.amount, here.currency) != (there.amount, there.currency):
        pair = f"{here.amount} {here.currency}", f"{there.amount} {there.currency}"
        found.append(Difference(kind, How.AMOUNT, key, here.subject, *pair))
    if here.status != there.status:
        found.append(Difference(kind, How.STATUS, key, here.subject, here.status, there.status))
    return found


def _words(record: Kept | None) -> str:
    if record is None:
        return ""
    return f"{record.amount} {record.currency} {record.status}".strip()
