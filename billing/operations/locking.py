"""One lock per customer: every operation that moves a customer's money takes it first.

So two of them never interleave for one customer, and the order of locks is the same everywhere:
customer, then subscription and invoices, then the invoice counter, then the customer's version.
It leaves the gate alone, which only refers to the row.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final

from django.db import transaction
from django.db.models import Q, QuerySet

from accounts.models import Customer
from accounts.operations.versions import CustomerUnknown

logger = logging.getLogger(__name__)
# So many customers wait at most for one transaction, and share what it costs.
AT_ONCE: Final = 100


def lock_customer(customer_id: int) -> Customer:
    """Lock the customer until the transaction ends. Raises CustomerUnknown."""
    customer = Customer.objects.select_for_update(no_key=True).filter(pk=customer_id).first()
    if customer is None:
        raise CustomerUnknown("There is no such customer.")
    return customer


def each_in_turn(
    claims: Iterable[tuple[int, int]], *, work: Callable[[int], bool], what: str
) -> int:
    """Do `work(subject)` for each (customer, subject) in a transaction of its own.

    As `in_batches` of one: `work` says whether it did something; returns how often it did.
    """
    return in_batches(claims, work=lambda found: work(found[0]), what=what, size=1)


def in_batches(
    claims: Iterable[tuple[int, int]],
    *,
    work: Callable[[list[int]], int],
    what: str,
    size: int = AT_ONCE,
    alone: Collection[int] = (),
) -> int:
    """Do `work(subjects)` for each (customer, subject), up to `size` in one transaction, in their
    order; of each customer one at a time.

    `alone`: customers whose metering may have to be told, first and each in a transaction of its
    own. To tell it their versions are raised, which keeps their calls waiting until the end, and
    two transactions that have raised one and want another would wait for each other.
    A customer that is locked elsewhere is passed over. `work` looks again at what there is to do
    and says of how many it did it; returns the sum. Where it fails it is done for each half by
    itself, so that one subject keeps no other from its turn: its failure is logged and stays
    visible as work undone.
    """
    given = list(claims)
    apart = [[claim] for claim in given if claim[0] in alone]
    together = [claim for claim in given if claim[0] not in alone]
    pieces = itertools.chain(apart, _pieces(together, size=size))
    return sum(_do(piece, work=work, what=what) for piece in pieces)


def in_order(
    due: QuerySet[Any], *, by: str, limit: int, work: Callable[[list[tuple[int, int]]], int]
) -> int:
    """Do `work` for the (customer, id) of the `limit` rows that have been due longest, as `by` says
    when; returns how often it was done.

    For each that could not be done, one behind it is: however many fail, they keep no other from
    its turn.
    """
    done, rows = 0, due.order_by(by, "id").values_list("customer_id", "id", by)
    claims = list(rows[:limit])
    while claims:
        done += work([(customer_id, subject_id) for customer_id, subject_id, _ in claims])
        _, subject_id, at = claims[-1]
        behind = Q(**{f"{by}__gt": at}) | Q(**{by: at, "id__gt": subject_id})
        claims = list(rows.filter(behind)[: max(0, limit - done)])
    return done


def _pieces(claims: list[tuple[int, int]], *, size: int) -> Iterator[list[tuple[int, int]]]:
    while claims:
        piece: dict[int, tuple[int, int]] = {}
        later = []
        for claim in claims:
            if len(piece) < size and claim[0] not in piece:
                piece[claim[0]] = claim
            else:
                later.append(claim)
        yield list(piece.values())
        claims = later


def _do(piece: list[tuple[int, int]], *, work: Callable[[list[int]], int], what: str) -> int:
    try:
        with transaction.atomic():
            ours = _try_customers([customer_id for customer_id, _ in piece])
            subjects = [subject_id for customer_id, subject_id in piece if customer_id in ours]
            return work(subjects) if subjects else 0
    except Exception:
        if len(piece) == 1:
            logger.exception("%s failed for %s", what, piece[0][1])
            return 0
        logger.warning("%s failed for one of %s", what, len(piece), exc_info=True)
    half = len(piece) // 2
    return sum(_do(part, work=work, what=what) for part in (piece[:half], piece[half:]))


def _try_customers(customer_ids: Iterable[int]) -> set[int]:
    """Lock those customers that nobody else has: a later look finds the work of the others."""
    rows = Customer.objects.select_for_update(no_key=True, skip_locked=True)
    return set(rows.filter(pk__in=customer_ids).order_by("pk").values_list("pk", flat=True))
