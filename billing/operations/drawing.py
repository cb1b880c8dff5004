"""Paying invoices from what the customer paid ahead."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from billing.domain import ledger
from billing.models import Invoice, Wallet
from billing.operations.collecting import CollectedByStripe, mark_paid, refuse_if_stripe_collects
from billing.operations.invoice_moves import audit_invoice, load_invoice
from billing.operations.wallets import major, move_wallet
from billing.queries.peers import Peers


class WalletTooEmpty(Exception):
    """The wallet holds less than was to be drawn."""


def draw_wallet(invoice_id: int, *, actor: str, now: datetime) -> Invoice:
    """Settle what is due of an invoice from the customer's wallet, all of it or nothing.

    Nothing due, nothing drawn. Raises WalletTooEmpty, CollectedByStripe, InvoiceUnknown.
    """
    with transaction.atomic():
        invoice = load_invoice(invoice_id)
        due = invoice.amount_due
        if not due:
            return invoice
        refuse_if_stripe_collects(invoice)
        if invoice.wallet_id is not None:
            raise CollectedByStripe("A top-up is what fills a wallet: Stripe collects it.")
        wallet = wallet_covering(invoice, peers=Peers([invoice.customer_id]))
        if wallet is None:
            raise WalletTooEmpty("The wallet holds less than is due.")
        move_wallet(wallet, amount=-due)
        posting = ledger.wallet_draw(due, currency=invoice.currency)
        invoice = mark_paid(
            invoice_id,
            amount_paid=invoice.total_with_tax,
            reference=wallet.public_id,
            posting=posting,
            now=now,
        )
        audit_invoice(invoice, "wallet.drawn", actor=actor, changes={"amount": due}, now=now)
    return invoice


def wallet_covering(invoice: Invoice, *, peers: Peers) -> Wallet | None:
    """The customer's wallet, if it holds all that is due of the invoice. The customer is locked."""
    wallet = peers.ask(_wallets_of, (invoice.customer_id, invoice.currency))
    least = major(invoice.amount_due, currency=invoice.currency)
    return wallet if wallet is not None and wallet.balance >= least else None


def _wallets_of(customer_ids: Sequence[int]) -> dict[tuple[int, str], Wallet]:
    rows = Wallet.objects.filter(customer_id__in=customer_ids)
    return {(each.customer_id, each.currency): each for each in rows}
