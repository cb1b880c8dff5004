"""Telling metering anew what an earlier version of this program told it otherwise, or not at all.

What is told is kept by metering until something changes. So an upgrade that tells more would show
only then: these look for what is told and would be told otherwise now. They find nothing but after
an upgrade, may run at any time, and go on where they were ended.
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import partial

from django.db.models import Exists, OuterRef, Q

from billing.models import Override, Subscription
from billing.operations.catalogue import offers_on_sale, publish_offers
from billing.operations.following import follow_customer
from billing.operations.locking import each_in_turn, in_order
from metering.models import Offer, Standing


def retell(*, now: datetime, limit: int) -> int:
    """Tell anew what is on sale, and what was agreed with up to `limit` customers; of how many."""
    retell_offers()
    return retell_agreed(now=now, limit=limit)


def retell_offers() -> bool:
    """Publish the plans on sale anew where they are published otherwise; whether they were."""
    if _published() == _to_be_published():
        return False
    publish_offers()
    return True


def retell_agreed(*, now: datetime, limit: int) -> int:
    """Tell what was agreed with up to `limit` customers of whom nothing of the kind is told;
    returns of how many."""
    untold = Override.objects.filter(
        Q(ends_at=None) | Q(ends_at__gt=now),
        Exists(Standing.objects.filter(customer_id=OuterRef("customer_id"), agreed__isnull=True)),
        Exists(Subscription.objects.filter(customer_id=OuterRef("customer_id"))),
        starts_at__lte=now,
    )

    def work(override_id: int) -> bool:
        mine = untold.filter(pk=override_id).first()
        if mine is not None:
            follow_customer(mine.customer_id, now=now)
        return mine is not None

    return in_order(
        untold,
        by="starts_at",
        limit=limit,
        work=partial(each_in_turn, work=work, what="telling what was agreed"),
    )


def _published() -> dict[tuple[str, str], object]:
    return {
        (each.plan_key, each.currency): [each.plan_name, each.rank, each.terms]
        for each in Offer.objects.all()
    }


def _to_be_published() -> dict[tuple[str, str], object]:
    return {
        (each.plan_key, each.currency): [each.plan_name, each.rank, _as_stored(each.terms)]
        for each in offers_on_sale()
    }


def _as_stored(terms: object) -> object:
    return json.loads(json.dumps(terms))
