"""Writing postings: each key at most once."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from billing.domain.ledger import Posting
from billing.models import LedgerEntry, LedgerPosting


def post(
    posting: Posting,
    *,
    key: str,
    customer_id: int,
    invoice_id: int | None = None,
    occurred_at: datetime,
    now: datetime,
    note: str = "",
) -> bool:
    """Keep the posting with its entries; returns False, changing nothing, where `key` is known.

    Two callers with one key at the same moment: one posts, the other waits and then knows.
    """
    with transaction.atomic():
        kept = LedgerPosting(
            key=key,
            kind=posting.kind,
            customer_id=customer_id,
            invoice_id=invoice_id,
            occurred_at=occurred_at,
            created_at=now,
            note=note,
        )
        LedgerPosting.objects.bulk_create([kept], ignore_conflicts=True)
        if not LedgerPosting.objects.filter(pk=kept.pk).exists():
            return False
        LedgerEntry.objects.bulk_create(
            LedgerEntry(
                posting=kept, account=entry.account, amount=entry.amount, currency=entry.currency
            )
            for entry in posting.entries
        )
    return True
