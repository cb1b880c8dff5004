"""What moves a wallet, and what stops and resumes its automatic top-ups; the customer is locked."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from django.db.models import F

from accounts.operations.auditing import audit
from billing.domain.money import currency_of
from billing.models import AutoTopUp, Invoice, Wallet


def major(amount: int, *, currency: str) -> Decimal:
    """Minor units as a wallet keeps them."""
    return Decimal(amount).scaleb(-currency_of(currency).exponent)


def minor_balance(wallet: Wallet) -> Decimal:
    """What the wallet holds, in minor units."""
    return wallet.balance.scaleb(currency_of(wallet.currency).exponent)


def move_wallet(wallet: Wallet, *, amount: int) -> None:
    """Put `amount` minor units into the wallet, or take them out. The caller posts it."""
    change = major(amount, currency=wallet.currency)
    Wallet.objects.filter(pk=wallet.pk).update(balance=F("balance") + change)
    wallet.refresh_from_db()


def left_of_top_up(invoice: Invoice, *, amount: int) -> int:
    """How much of `amount` minor units that go back the wallet of a top-up can give; of any other
    invoice nothing."""
    return min(amount, int(minor_balance(invoice.wallet))) if invoice.wallet else 0


def fill_wallet(invoice: Invoice, *, amount: int, reference: str, now: datetime) -> None:
    """`amount` minor units came in for a top-up. The caller posts it, once.

    Automatic top-ups that were suppressed because of this one go on.
    """
    assert invoice.wallet is not None
    move_wallet(invoice.wallet, amount=amount)
    of_it = AutoTopUp.objects.filter(suppressed_by=invoice)
    of_it.update(suppressed_at=None, suppressed_by=None)
    audit(
        actor="stripe",
        action="wallet.topped_up",
        subject=invoice.wallet.public_id,
        customer_id=invoice.customer_id,
        changes={"amount": amount, "reference": reference, "top_up": invoice.public_id},
        now=now,
    )


def suppress_auto_top_up(invoice: Invoice, *, reason: str, now: datetime) -> None:
    """Begin no top-up of this wallet by itself, because of what became of this one.

    Until the payment method changes, or somebody switches it on again.
    """
    running = AutoTopUp.objects.filter(wallet=invoice.wallet_id, enabled=True, suppressed_at=None)
    if running.update(suppressed_at=now, suppressed_by=invoice):
        audit(
            actor="system",
            action="auto_top_up.suppressed",
            subject=invoice.public_id,
            customer_id=invoice.customer_id,
            changes={"reason": reason},
            now=now,
        )


def resume_auto_top_up(customer_id: int) -> None:
    """Let automatic top-ups go on: what stopped them is over."""
    stopped = AutoTopUp.objects.filter(wallet__customer=customer_id, suppressed_at__isnull=False)
    stopped.update(suppressed_at=None, suppressed_by=None)
