"""A customer's whole metering state, as the domain decides over it; not for the hot path."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Q

from accounts.models import Customer
from metering.domain.account import Account, Balance, Feature, Grant, Terms
from metering.domain.burndown import burning_order
from metering.models import Balance as BalanceRow
from metering.models import Entitlement, Hold, Standing
from metering.models import Grant as GrantRow


def account_of(customer_id: int, *, now: datetime) -> Account:
    """The copy that `metering.domain.decisions.decide` takes, without the customer's keys.

    Windows that are over at `now` are left out. Raises Customer.DoesNotExist.
    """
    customer = Customer.objects.select_related("version_row").get(id=customer_id)
    account = Account(
        customer_id=customer_id,
        version=customer.version_row.version,
        external_id=customer.external_id,
        suspended=customer.suspended_at is not None,
        balances_since=now,
    )
    standing = Standing.objects.filter(customer_id=customer_id).first()
    if standing is not None:
        account.sold = True
        account.plan_key = standing.plan_key
        account.plan_name = standing.plan_name
        account.deny_code = standing.deny_code
        account.deny_at = standing.deny_at
        account.invoice_url = standing.invoice_url
    _add_rights(account, now=now)
    for row in BalanceRow.objects.filter(customer_id=customer_id, end_at__gt=now):
        account.balances[row.meter_id, row.window, row.start_at] = Balance(
            row.end_at, row.used, row.grant_used, row.held, row.grant_held, stored=True
        )
    first = Hold.objects.filter(customer_id=customer_id, state=Hold.State.OPEN)
    account.next_expiry_at = (
        first.order_by("expires_at").values_list("expires_at", flat=True).first()
    )
    return account


def _add_rights(account: Account, *, now: datetime) -> None:
    standing_now = Q(ends_at__isnull=True) | Q(ends_at__gt=now)
    for right in Entitlement.objects.filter(standing_now, customer_id=account.customer_id):
        if right.kind != Entitlement.Kind.METERED:
            shown = right.value if right.kind == Entitlement.Kind.STATIC else None
            feature = Feature(right.feature, shown, right.starts_at, right.ends_at)
            account.features[right.feature] = feature
            continue
        assert right.meter_id is not None
        account.terms.setdefault(right.meter_id, []).append(
            Terms(
                meter_id=right.meter_id,
                window=right.window,
                anchor_at=right.anchor_at,
                included=right.included,
                unlimited=right.unlimited,
                over_is_billed=right.over == Entitlement.Over.BILL,
                overage_limit=right.overage_limit,
                starts_at=right.starts_at,
                ends_at=right.ends_at,
            )
        )
    unexpired = Q(expires_at__isnull=True) | Q(expires_at__gt=now)
    for row in GrantRow.objects.filter(
        unexpired, customer_id=account.customer_id, voided_at__isnull=True
    ):
        account.grants.setdefault(row.meter_id, []).append(
            Grant(
                id=row.id,
                meter_id=row.meter_id,
                quantity=row.quantity,
                used=row.used,
                held=row.held,
                priority=row.priority,
                effective_at=row.effective_at,
                expires_at=row.expires_at,
            )
        )
    for meter_id, grants in account.grants.items():
        account.grants[meter_id] = burning_order(grants)
