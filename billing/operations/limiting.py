"""Spend limits: how much overage may cost a customer in a billing period."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from django.db import transaction

from accounts.operations.auditing import audit
from billing.domain.money import currency_of
from billing.models import SpendLimit
from billing.operations.following import follow_customer
from billing.operations.locking import lock_customer
from billing.operations.plan_shapes import AMOUNT_MAX

SetBy = Literal["customer", "operator"]
LIMIT_MAX: Final = AMOUNT_MAX * 100


class SpendLimitInvalid(Exception):
    """No customer can be held to such a limit."""

    param = "amount"


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
