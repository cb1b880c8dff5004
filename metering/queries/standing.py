"""A customer's whole metering state, as the domain decides over it; not for the hot path."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from django.db.models import Q

from accounts.models import Customer
from metering.domain.account import Account, Balance, Feature, Grant, Terms
from metering.domain.burndown import burning_order
from metering.domain.spending import Curve, SpendLimit
from metering.domain.windows import RATE_UNITS
from metering.models import Balance as BalanceRow
from metering.models import Entitlement, Hold, Standing
from metering.models import Grant as GrantRow
from metering.models.rights import Window

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


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
        currency=customer.currency,
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
        if standing.spend_limit is not None:
            account.spend_limit = SpendLimit.from_json(standing.spend_limit)
        account.agreed = standing.agreed or ()
    _add_rights(account, now=now)
    since = now
    if account.spend_limit is not None:  # what is over of the billing period counts with it
        since = account.spend_limit.period(now)[0]
    for row in BalanceRow.objects.filter(customer_id=customer_id, end_at__gt=since):
        account.balances[row.meter_id, row.window, row.start_at] = _balance(row)
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
                blended=right.blended or 0,
                blended_until=right.blended_until,
                unlimited=right.unlimited,
                over_is_billed=right.over == Entitlement.Over.BILL,
                overage_limit=right.overage_limit,
                starts_at=right.starts_at,
                ends_at=right.ends_at,
                curve=Curve.from_json(right.curve)
                if right.curve is not None and account.spend_limit is not None
                else None,
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


def account_in(customer_id: int, *, moments: Iterable[tuple[int, datetime]]) -> Account:
    """The copy with all that counts for things that happened to meters: (meter id, when).

    Rights that are over and grants that have expired are in it, and of the balances those of the
    windows in which the moments lie. Raises Customer.DoesNotExist.
    """
    account = Account(
        customer_id=customer_id,
        version=Customer.objects.get(id=customer_id).version_row.version,
    )
    _add_rights(account, now=_LONG_AGO)
    add_balances(account, moments=moments)
    return account


def add_balances(account: Account, *, moments: Iterable[tuple[int, datetime]]) -> None:
    """Read into a copy the balances of the windows in which the moments lie."""
    wanted = {
        (meter_id, terms.window, terms.window_at(at)[0])
        for meter_id, at in moments
        for terms in account.terms.get(meter_id, ())
    } - account.balances.keys()
    rows = BalanceRow.objects.filter(
        customer_id=account.customer_id,
        meter_id__in={meter_id for meter_id, _, _ in wanted},
        start_at__in={start_at for _, _, start_at in wanted},
    )
    for row in rows:
        key = (row.meter_id, row.window, row.start_at)
        if key in wanted:
            account.balances[key] = _balance(row)


def add_paying_balances(account: Account, *, moments: Iterable[tuple[int, datetime]]) -> None:
    """Read into a copy every window of these times, of whatever terms, in which grants paid."""
    chosen = list(moments)
    if not chosen:
        return
    times = [at for _, at in chosen]
    rows = BalanceRow.objects.filter(
        Q(window=Window.LIFETIME) | Q(start_at__lte=max(times)),
        customer_id=account.customer_id,
        meter_id__in={meter_id for meter_id, _ in chosen},
        end_at__gt=min(times),
        grant_used__gt=0,
    )
    for row in rows.exclude(window__in=RATE_UNITS):
        account.balances.setdefault((row.meter_id, row.window, row.start_at), _balance(row))


def _balance(row: BalanceRow) -> Balance:
    return Balance(
        row.end_at,
        row.used,
        row.grant_used,
        row.held,
        row.grant_held,
        stored=True,
        latest_at=row.latest_at,
    )
