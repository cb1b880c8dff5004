"""Spend limits: how much overage may cost a customer in a billing period."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal

from django.db import transaction
from django.db.models import Exists, OuterRef

from accounts.operations.auditing import audit
from billing.domain.money import currency_of
from billing.models import SpendLimit
from billing.operations.following import follow_customer
from billing.operations.locking import each_in_turn, lock_customer
from billing.operations.plan_shapes import AMOUNT_MAX
from metering.models import Correction, Standing

SetBy = Literal["customer", "operator"]
LIMIT_MAX: Final = AMOUNT_MAX * 100
_SPARE: Final = timedelta(seconds=10)  # a correction is written a while after its time


class SpendLimitInvalid(Exception):
    """No customer can be held to such a limit."""

    param = "amount"


class SpendLimitLoosened(Exception):
    """A customer's API key is in its programs: it may tighten the limit, and never loosen it."""

    param = "amount"


def tighten_spend_limit(customer_id: int, *, amount: int, actor: str, now: datetime) -> None:
    """Set the customer's limit, where it has none or a higher one, as `set_spend_limit` does.

    Raises SpendLimitLoosened besides.
    """
    with transaction.atomic():
        lock_customer(customer_id)
        own = SpendLimit.objects.filter(customer_id=customer_id, set_by="customer")
        before = own.values_list("amount", flat=True).first()
        if before is not None and amount > before:
            raise SpendLimitLoosened(
                "An API key can lower the spend limit only: raise or remove it in the portal, at"
                " /portal/spend-limit."
            )
        set_spend_limit(customer_id, amount=amount, set_by="customer", actor=actor, now=now)


def retell_corrected(*, now: datetime, limit: int) -> int:
    """Tell the gate anew what is spent of limits whose customers' usage was corrected since it was
    told: what earlier terms of the period cost, and what grants paid under them, may be otherwise.
    """
    corrected = Correction.objects.filter(
        customer_id=OuterRef("customer_id"), at__gt=OuterRef("updated_at") - _SPARE
    )
    told = Standing.objects.filter(Exists(corrected), spend_limit__isnull=False)

    def work(customer_id: int) -> bool:
        follow_customer(customer_id, now=now)
        return True

    claims = told.order_by("updated_at").values_list("customer_id", "customer_id")[:limit]
    return each_in_turn(list(claims), work=work, what="telling a spend limit anew")


def set_spend_limit(
    customer_id: int, *, amount: int | None, set_by: SetBy, actor: str, now: datetime
) -> None:
    """Set the customer's or the operator's limit, in minor units per billing period; None: none.

    The next call keeps to the lower of the two. What was spent already counts. 0 lets nothing
    past what is included. Setting it to what it is changes nothing. Raises SpendLimitInvalid,
    CustomerUnknown.
    """
    if amount is not None and not 0 <= amount <= LIMIT_MAX:
        raise SpendLimitInvalid(f"A spend limit is an amount from 0 to {LIMIT_MAX} minor units.")
    with transaction.atomic():
        customer = lock_customer(customer_id)
        step = currency_of(customer.currency).step
        if amount is not None and amount % step:
            raise SpendLimitInvalid(f"Amounts in {customer.currency} are multiples of {step}.")
        own = SpendLimit.objects.filter(customer_id=customer_id, set_by=set_by)
        before = own.values_list("amount", flat=True).first()
        if amount == before:
            return
        if amount is None:
            own.delete()
        else:
            SpendLimit.objects.update_or_create(
                customer_id=customer_id,
                set_by=set_by,
                defaults={"amount": amount, "updated_at": now},
            )
        audit(
            actor=actor,
            action="spend_limit.set" if amount is not None else "spend_limit.removed",
            subject=customer.public_id,
            customer_id=customer_id,
            changes={"set_by": set_by, "from": before, "to": amount},
            now=now,
        )
        follow_customer(customer_id, now=now)
