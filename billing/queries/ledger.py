"""What the ledger says."""

from __future__ import annotations

from django.db.models import Sum

from billing.domain.ledger import Account, PostingKind
from billing.models import Invoice, LedgerEntry

ISSUING = (
    PostingKind.INVOICE_ISSUED,
    PostingKind.INVOICE_TAXED,
    PostingKind.CREDIT_GRANTED,
    PostingKind.CREDIT_APPLIED,
)


def account_balance(customer_id: int, *, account: Account, currency: str) -> int:
    """The sum of a customer's entries on an account, in minor units (credits are negative)."""
    entries = LedgerEntry.objects.filter(
        posting__customer_id=customer_id, account=account, currency=currency
    )
    return int(entries.aggregate(total=Sum("amount"))["total"] or 0)


def issue_key(kind: PostingKind, invoice: Invoice) -> str:
    """The key of a posting that issuing an invoice, or its tax, makes."""
    return f"{kind}:{invoice.public_id}"


def issued_entries(invoice: Invoice) -> dict[Account, int]:
    """What issuing an invoice moved, tax included, per account.

    Accounts that came out even are left out.
    """
    keys = [issue_key(kind, invoice) for kind in ISSUING]
    entries = LedgerEntry.objects.filter(posting__key__in=keys)
    rows = entries.values_list("account").annotate(total=Sum("amount"))
    return {Account(account): total for account, total in rows if total}
