"""Double entry: every movement of money is a posting whose entries sum to zero.

An entry's ``amount`` is in minor units, positive for a debit and negative for a credit. So a
balance of ``receivable`` is what customers owe us, a balance of ``wallet`` or
``customer_credit`` is what we owe them, with a minus. Accounts are kept per customer by
whoever stores postings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from billing.domain.money import currency_of


class PostingUnbalanced(Exception):
    """Debits and credits of a posting differ: money would come from nowhere."""

    def __init__(self, currency: str, difference: int) -> None:
        super().__init__(f"The entries in {currency} sum to {difference}, not to 0.")
        self.currency = currency
        self.difference = difference


class PostingEmpty(Exception):
    """A posting without entries, or with an entry of nothing, says nothing."""


class AmountNotPositive(Exception):
    """Movements are stated as positive amounts; their kind says which way they go."""

    def __init__(self, amount: int) -> None:
        super().__init__(f"{amount} is not an amount of money that can move.")


class Account(StrEnum):
    RECEIVABLE = "receivable"  # issued to customers, not yet paid
    REVENUE = "revenue"
    TAX = "tax"  # collected for the state
    CASH = "cash"  # at Stripe, or paid outside
    CUSTOMER_CREDIT = "customer_credit"  # promised against future invoices
    PROMOTIONS = "promotions"  # credit that was given away
    WALLET = "wallet"  # paid in advance
    REFUNDS = "refunds"
    DISPUTED = "disputed"  # taken back by a bank until a dispute is decided
    CHARGEBACKS = "chargebacks"  # lost in disputes
    WRITE_OFF = "write_off"


class PostingKind(StrEnum):
    INVOICE_ISSUED = "invoice_issued"
    INVOICE_TAXED = "invoice_taxed"
    INVOICE_VOIDED = "invoice_voided"
    PAYMENT_RECEIVED = "payment_received"
    REFUND_GIVEN = "refund_given"
    REFUND_FAILED = "refund_failed"
    DISPUTE_OPENED = "dispute_opened"
    DISPUTE_WON = "dispute_won"
    DISPUTE_LOST = "dispute_lost"
    CREDIT_GRANTED = "credit_granted"
    CREDIT_APPLIED = "credit_applied"
    CREDIT_SOLD = "credit_sold"
    CREDIT_GIVEN = "credit_given"
    CREDIT_EXPIRED = "credit_expired"
    WALLET_TOP_UP = "wallet_top_up"
    WALLET_DRAW = "wallet_draw"
    WRITE_OFF = "write_off"
    WRITE_OFF_RECOVERED = "write_off_recovered"


@dataclass(frozen=True, slots=True)
class Entry:
    """``amount`` minor units into (debit, positive) or out of (credit) one account."""

    account: Account
    amount: int
    currency: str

    def __post_init__(self) -> None:
        currency_of(self.currency)


@dataclass(frozen=True, slots=True)
class Posting:
    """A movement of money. Cannot be made unless its entries sum to zero in each currency.

    Raises :class:`PostingUnbalanced`, :class:`PostingEmpty`.
    """

    kind: PostingKind
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        if not self.entries or any(entry.amount == 0 for entry in self.entries):
            raise PostingEmpty(f"A posting {self.kind} has nothing to move.")
        for currency, difference in sums(self.entries).items():
            if difference:
                raise PostingUnbalanced(currency, difference)


def sums(entries: Iterable[Entry]) -> dict[str, int]:
    """The sum of the entries' amounts, per currency."""
    totals: defaultdict[str, int] = defaultdict(int)
    for entry in entries:
        totals[entry.currency] += entry.amount
    return dict(totals)


def balances(postings: Iterable[Posting]) -> dict[tuple[Account, str], int]:
    """The balance of each account and currency after these postings."""
    totals: defaultdict[tuple[Account, str], int] = defaultdict(int)
    for posting in postings:
        for entry in posting.entries:
            totals[entry.account, entry.currency] += entry.amount
    return dict(totals)


def invoice_issued(total: int, *, currency: str, tax: int = 0) -> Posting:
    """A customer owes ``total``, of which ``tax`` is the state's. An invoice of 0 posts
    nothing, one below 0 is :func:`credit_granted`. Raises :class:`AmountNotPositive`."""
    return _issue(PostingKind.INVOICE_ISSUED, total, currency=currency, tax=tax, sign=1)


def invoice_voided(total: int, *, currency: str, tax: int = 0) -> Posting:
    """The exact opposite of :func:`invoice_issued`: it should never have been issued."""
    return _issue(PostingKind.INVOICE_VOIDED, total, currency=currency, tax=tax, sign=-1)


def invoice_taxed(*, added: int, included: int, currency: str) -> Posting:
    """Stripe computed the tax of an issued invoice: ``added`` is owed on top of it, ``included``
    of what was taken for revenue is the state's. Raises :class:`AmountNotPositive`."""
    if min(added, included) < 0 or added + included == 0:
        raise AmountNotPositive(min(added, included))
    parts = (
        (Account.RECEIVABLE, added),
        (Account.REVENUE, included),
        (Account.TAX, -added - included),
    )
    return Posting(
        PostingKind.INVOICE_TAXED,
        tuple(Entry(account, part, currency) for account, part in parts if part),
    )


def payment_received(amount: int, *, currency: str) -> Posting:
    """Money came in for an issued invoice."""
    return _move(
        PostingKind.PAYMENT_RECEIVED,
        amount,
        debit=Account.CASH,
        credit=Account.RECEIVABLE,
        currency=currency,
    )


def refund_given(amount: int, *, currency: str, from_wallet: int = 0) -> Posting:
    """Money went back to the customer after it had been paid; the invoice stays paid.

    ``from_wallet``: how much of it a wallet gives, where a top-up is refunded."""
    return _refund(PostingKind.REFUND_GIVEN, amount, currency=currency, wallet=from_wallet, sign=1)


def refund_failed(amount: int, *, currency: str, to_wallet: int = 0) -> Posting:
    """A refund did not reach the customer: its money came back to us, and to the wallet what
    the wallet gave."""
    return _refund(PostingKind.REFUND_FAILED, amount, currency=currency, wallet=to_wallet, sign=-1)


def dispute_opened(amount: int, *, currency: str) -> Posting:
    """The customer's bank took a payment back until it has decided; the invoice stays paid."""
    return _move(
        PostingKind.DISPUTE_OPENED,
        amount,
        debit=Account.DISPUTED,
        credit=Account.CASH,
        currency=currency,
    )


def dispute_won(amount: int, *, currency: str) -> Posting:
    """The bank gave the money back."""
    return _move(
        PostingKind.DISPUTE_WON,
        amount,
        debit=Account.CASH,
        credit=Account.DISPUTED,
        currency=currency,
    )


def dispute_lost(amount: int, *, currency: str, from_wallet: int = 0) -> Posting:
    """The bank gave the money to its customer for good.

    ``from_wallet``: how much of it a wallet gives, where a top-up was disputed."""
    if amount <= 0 or not 0 <= from_wallet <= amount:
        raise AmountNotPositive(amount if amount <= 0 else from_wallet)
    parts = (
        (Account.WALLET, from_wallet),
        (Account.CHARGEBACKS, amount - from_wallet),
        (Account.DISPUTED, -amount),
    )
    return _parts(PostingKind.DISPUTE_LOST, parts, currency=currency)


def credit_granted(amount: int, *, currency: str) -> Posting:
    """We owe the customer ``amount`` against future invoices (a downgrade, a credit note)."""
    return _move(
        PostingKind.CREDIT_GRANTED,
        amount,
        debit=Account.REVENUE,
        credit=Account.CUSTOMER_CREDIT,
        currency=currency,
    )


def credit_applied(amount: int, *, currency: str) -> Posting:
    """Part of an issued invoice is settled with credit that was granted before."""
    return _move(
        PostingKind.CREDIT_APPLIED,
        amount,
        debit=Account.CUSTOMER_CREDIT,
        credit=Account.RECEIVABLE,
        currency=currency,
    )


def credit_sold(amount: int, *, currency: str) -> Posting:
    """The customer paid for credit, outside of an invoice."""
    return _move(
        PostingKind.CREDIT_SOLD,
        amount,
        debit=Account.CASH,
        credit=Account.CUSTOMER_CREDIT,
        currency=currency,
    )


def credit_given(amount: int, *, currency: str) -> Posting:
    """Credit as a gift: a promotion, an apology."""
    return _move(
        PostingKind.CREDIT_GIVEN,
        amount,
        debit=Account.PROMOTIONS,
        credit=Account.CUSTOMER_CREDIT,
        currency=currency,
    )


def credit_expired(amount: int, *, currency: str, given: bool) -> Posting:
    """What was left of credit can no longer be used. What was ``given`` comes back to where it
    came from; what was paid for is earned."""
    return _move(
        PostingKind.CREDIT_EXPIRED,
        amount,
        debit=Account.CUSTOMER_CREDIT,
        credit=Account.PROMOTIONS if given else Account.REVENUE,
        currency=currency,
    )


def wallet_top_up(amount: int, *, currency: str) -> Posting:
    """Money came in ahead of use."""
    return _move(
        PostingKind.WALLET_TOP_UP,
        amount,
        debit=Account.CASH,
        credit=Account.WALLET,
        currency=currency,
    )


def wallet_draw(amount: int, *, currency: str) -> Posting:
    """Part of an issued invoice is settled from the wallet."""
    return _move(
        PostingKind.WALLET_DRAW,
        amount,
        debit=Account.WALLET,
        credit=Account.RECEIVABLE,
        currency=currency,
    )


def write_off(amount: int, *, currency: str) -> Posting:
    """An issued invoice will not be paid (uncollectible)."""
    return _move(
        PostingKind.WRITE_OFF,
        amount,
        debit=Account.WRITE_OFF,
        credit=Account.RECEIVABLE,
        currency=currency,
    )


def write_off_recovered(amount: int, *, currency: str) -> Posting:
    """A written-off invoice is owed again; what follows is :func:`payment_received`."""
    return _move(
        PostingKind.WRITE_OFF_RECOVERED,
        amount,
        debit=Account.RECEIVABLE,
        credit=Account.WRITE_OFF,
        currency=currency,
    )


def _move(
    kind: PostingKind, amount: int, *, debit: Account, credit: Account, currency: str
) -> Posting:
    if amount <= 0:
        raise AmountNotPositive(amount)
    return Posting(kind, (Entry(debit, amount, currency), Entry(credit, -amount, currency)))


def _issue(kind: PostingKind, total: int, *, currency: str, tax: int, sign: int) -> Posting:
    if total <= 0 or not 0 <= tax <= total:
        raise AmountNotPositive(total if total <= 0 else tax)
    parts = (
        (Account.RECEIVABLE, sign * total),
        (Account.REVENUE, -sign * (total - tax)),
        (Account.TAX, -sign * tax),
    )
    return _parts(kind, parts, currency=currency)


def _refund(kind: PostingKind, amount: int, *, currency: str, wallet: int, sign: int) -> Posting:
    if amount <= 0 or not 0 <= wallet <= amount:
        raise AmountNotPositive(amount if amount <= 0 else wallet)
    parts = (
        (Account.WALLET, sign * wallet),
        (Account.REFUNDS, sign * (amount - wallet)),
        (Account.CASH, -sign * amount),
    )
    return _parts(kind, parts, currency=currency)


def _parts(kind: PostingKind, parts: Iterable[tuple[Account, int]], *, currency: str) -> Posting:
    return Posting(kind, tuple(Entry(account, part, currency) for account, part in parts if part))
