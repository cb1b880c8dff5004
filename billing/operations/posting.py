"""Writing postings: each key at most once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from accounts.models import new_entity_id
from billing.domain.ledger import Posting
from billing.models import LedgerEntry, LedgerPosting
from billing.operations.rewriting import insert


@dataclass(frozen=True, slots=True)
class ToPost:
    """A posting that is to be kept under `key`."""

    posting: Posting
    key: str
    customer_id: int
    occurred_at: datetime
    invoice_id: int | None = None
    note: str = ""


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
    wish = ToPost(posting, key, customer_id, occurred_at, invoice_id, note)
    return post_all([wish], now=now) == 1


def post_all(wishes: Sequence[ToPost], *, now: datetime) -> int:
    """`post` each of them, together; of how many the key was not known."""
    ids = [new_entity_id() for _ in wishes]
    with transaction.atomic():
        kept = insert(
            LedgerPosting,
            [
                {
                    "id": posting_id,
                    "key": each.key,
                    "kind": each.posting.kind,
                    "customer_id": each.customer_id,
                    "invoice_id": each.invoice_id,
                    "occurred_at": each.occurred_at,
                    "created_at": now,
                    "note": each.note,
                }
                for posting_id, each in zip(ids, wishes, strict=True)
            ],
            but_known=True,
        )
        insert(
            LedgerEntry,
            [
                {
                    "posting_id": posting_id,
                    "account": entry.account,
                    "amount": entry.amount,
                    "currency": entry.currency,
                }
                for posting_id, each in zip(ids, wishes, strict=True)
                if posting_id in kept
                for entry in each.posting.entries
            ],
        )
    return len(kept)
