"""Credits: given or sold to customers, used by invoices, returned, expired.

A credit row says what is left of it; the ledger says the same per customer (checked). The customer
is locked by whoever changes either.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from django.db import transaction
from django.db.models import F

from accounts.operations.auditing import audit
from billing.domain import ledger
from billing.domain.credits import draw
from billing.domain.money import currency_of
from billing.models import Credit, CreditUse, Invoice
from billing.operations.following import caught_up
from billing.operations.locking import each_in_turn, lock_customer
from billing.operations.posting import post
from billing.queries.credits import usable_credits
from billing.queries.peers import Peers

PRIORITY_MAX: Final = 1_000
OWED_PRIORITY: Final = 100  # what is owed to customers goes after what was given to them
_DEFAULT_PRIORITY: Final = {"promotional": 0, "paid": OWED_PRIORITY}


class CreditInvalid(Exception):
    """A credit cannot be granted like that; `param` names the member at fault."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(f"{param}: {detail}")
        self.param = param


class CreditUnknown(Exception):
    """No credit has this id."""


def grant_credit(
    customer_id: int,
    *,
    amount: int,
    kind: Literal["promotional", "paid"] = "promotional",
    priority: int | None = None,
    expires_at: datetime | None = None,
    reason: str = "",
    actor: str,
    now: datetime,
) -> Credit:
    """Give the customer credit of `amount` minor units of its currency against coming invoices.

    `promotional` is a gift, `paid` was paid for elsewhere. Lower priorities are used first; None:
    0 for promotional, 100 for paid ones and for what is owed otherwise. Not idempotent (the API
    keeps repeats apart by their Idempotency-Key). Raises CreditInvalid, CustomerUnknown.
    """
    if amount <= 0:
        raise CreditInvalid("amount", "must be a whole number of minor units above zero")
    if expires_at is not None and expires_at <= now:
        raise CreditInvalid("expires_at", "is in the past")
    priority = _DEFAULT_PRIORITY[kind] if priority is None else priority
    if not 0 <= priority <= PRIORITY_MAX:
        raise CreditInvalid("priority", f"must be from 0 to {PRIORITY_MAX}")
    with transaction.atomic():
        customer = lock_customer(customer_id)
        if not currency_of(customer.currency).admits(amount):
            step = currency_of(customer.currency).step
            raise CreditInvalid("amount", f"must be a multiple of {step}")
        credit = Credit.objects.create(
            customer=customer,
            currency=customer.currency,
            kind=kind,
            amount=amount,
            priority=priority,
            reason=reason,
            granted_at=now,
            expires_at=expires_at,
        )
        posting = ledger.credit_given if kind == "promotional" else ledger.credit_sold
        post(
            posting(amount, currency=credit.currency),
            key=f"credit:{credit.public_id}",
            customer_id=customer_id,
            occurred_at=now,
            now=now,
            note=reason,
        )
        _audit(credit, "credit.granted", actor=actor, amount=amount, now=now)
    return credit


def owe_credit(customer_id: int, *, amount: int, currency: str, reason: str, now: datetime) -> None:
    """Keep credit that another posting promises: a credit note, an invoice below zero."""
    Credit.objects.create(
        customer_id=customer_id,
        currency=currency,
        kind=Credit.Kind.PAID,
        amount=amount,
        priority=OWED_PRIORITY,
        reason=reason,
        granted_at=now,
    )


def use_credit(invoice: Invoice, *, amount: int, peers: Peers) -> None:
    """Use up `amount` for an invoice that is being issued, by priority, expiry and age.

    The caller has found among the same peers that there is as much, and posts it.
    """
    usable = usable_credits(
        invoice.customer_id, currency=invoice.currency, end_at=invoice.period_end_at, peers=peers
    )
    drawn = draw(usable, amount=amount)
    for credit_id, part in drawn.items():
        Credit.objects.filter(pk=credit_id).update(used=F("used") + part)
    CreditUse.objects.bulk_create(
        CreditUse(credit_id=credit_id, invoice=invoice, amount=part)
        for credit_id, part in drawn.items()
    )


def return_credit(invoice: Invoice) -> None:
    """What a voided invoice had used can be used again; where it expired meanwhile, it expires
    anew, with a posting of its own. The caller has posted the return."""
    for use in invoice.credit_uses.all():
        Credit.objects.filter(pk=use.credit_id).update(used=F("used") - use.amount)
    invoice.credit_uses.all().delete()


def end_credit(credit_id: int, *, actor: str, now: datetime) -> Credit:
    """Let what is left of a credit expire at once; used up or expired, nothing changes.

    Raises CreditUnknown.
    """
    with transaction.atomic():
        found = Credit.objects.filter(pk=credit_id)
        customer_id = found.values_list("customer_id", flat=True).first()
        if customer_id is None:
            raise CreditUnknown("There is no such credit.")
        lock_customer(customer_id)
        credit = found.get()
        _expire(credit, actor=actor, now=now)
    return credit


def expire_due(*, now: datetime, limit: int) -> int:
    """Let up to `limit` credits expire whose time is over; posts what was left of each, once.

    A credit lasts until the bills of the periods that ended before its expiry are issued.
    """
    due = Credit.objects.filter(expires_at__lte=now, amount__gt=F("used") + F("expired"))

    def work(credit_id: int) -> bool:
        credit = due.filter(pk=credit_id).first()
        if credit is None or _awaited(credit, now=now):
            return False
        _expire(credit, actor="system", now=now)
        return True

    claims = due.order_by("expires_at", "id").values_list("customer_id", "id")[:limit]
    return each_in_turn(list(claims), work=work, what="expiring a credit")


def _awaited(credit: Credit, *, now: datetime) -> bool:
    """Whether a bill that may use the credit is still to be issued."""
    caught_up(credit.customer_id, now=now)
    return Invoice.objects.filter(
        customer_id=credit.customer_id,
        status=Invoice.Status.DRAFT,
        period_end_at__lte=credit.expires_at,
    ).exists()


def _expire(credit: Credit, *, actor: str, now: datetime) -> None:
    left = credit.left
    if not left:
        return
    post(
        ledger.credit_expired(
            left, currency=credit.currency, given=credit.kind == Credit.Kind.PROMOTIONAL
        ),
        # What is returned to it later expires as more of it.
        key=f"credit_expired:{credit.public_id}:{credit.expired + left}",
        customer_id=credit.customer_id,
        occurred_at=now,
        now=now,
    )
    credit.expired += left
    credit.save(update_fields=["expired"])
    _audit(credit, "credit.expired", actor=actor, amount=left, now=now)


def _audit(credit: Credit, action: str, *, actor: str, amount: int, now: datetime) -> None:
    audit(
        actor=actor,
        action=action,
        subject=credit.public_id,
        customer_id=credit.customer_id,
        changes={"amount": amount, "currency": credit.currency, "kind": str(credit.kind)},
        now=now,
    )
