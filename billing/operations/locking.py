"""One lock per customer: every operation that moves a customer's money takes it first.

So two of them never interleave for one customer, and the order of locks is the same everywhere:
customer, then subscription and invoices, then the invoice counter, then the customer's version.
It leaves the gate alone, which only refers to the row.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from django.db import transaction

from accounts.models import Customer
from accounts.operations.versions import CustomerUnknown

logger = logging.getLogger(__name__)


def lock_customer(customer_id: int) -> Customer:
    """Lock the customer until the transaction ends. Raises CustomerUnknown."""
    customer = Customer.objects.select_for_update(no_key=True).filter(pk=customer_id).first()
    if customer is None:
        raise CustomerUnknown("There is no such customer.")
    return customer


def try_customer(customer_id: int) -> bool:
    """Lock the customer unless somebody else has it: then a later look finds the work again."""
    rows = Customer.objects.select_for_update(no_key=True, skip_locked=True)
    return rows.filter(pk=customer_id).first() is not None


def each_in_turn(
    claims: Iterable[tuple[int, int]], *, work: Callable[[int], bool], what: str
) -> int:
    """Do `work(subject)` for each (customer, subject) in a transaction of its own.

    A customer that is locked elsewhere is passed over. `work` looks again whether there is
    something to do and says whether it did it; returns how often it did. One subject that fails
    keeps no other from its turn: its failure is logged and stays visible as work undone.
    """
    done = 0
    for customer_id, subject_id in claims:
        try:
            with transaction.atomic():
                done += try_customer(customer_id) and work(subject_id)
        except Exception:
            logger.exception("%s failed for %s", what, subject_id)
    return done
