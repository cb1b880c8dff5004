"""Coupons: making them, redeeming them, taking them back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from django.db import IntegrityError, transaction

from accounts.operations.auditing import audit
from billing.domain.discounts import (
    PERIODS_MAX,
    CouponInvalid,
    Discount,
    check_discount,
    code_of,
)
from billing.domain.money import CURRENCIES
from billing.models import Coupon, CouponRedemption, Plan
from billing.operations.locking import lock_customer


class CouponCodeTaken(Exception):
    """There is a coupon with this code already, perhaps an archived one."""

    param = "code"


class CouponUnknown(Exception):
    """No coupon has this code."""

    param = "code"


class CouponRefused(Exception):
    """The coupon cannot be redeemed: over, used up, of another currency, or redeemed before."""

    param = "code"


class RedemptionUnknown(Exception):
    """The customer has not redeemed this."""


def create_coupon(
    *,
    code: str,
    name: str,
    percent: Decimal | None = None,
    amounts: Mapping[str, int] | None = None,
    periods: int | None = None,
    plans: Sequence[str] = (),
    max_redemptions: int | None = None,
    expires_at: datetime | None = None,
    actor: str,
    now: datetime,
) -> Coupon:
    """Make a coupon of `percent`, or of `amounts` in minor units by currency.

    It counts in `periods` periods, of which the one under way when it is redeemed is the first;
    None: in all. `plans` (keys): off what these charge only. Raises CouponInvalid, CouponCodeTaken.
    """
    code = code_of(code)
    unknown = sorted(set(amounts or {}) - set(CURRENCIES))
    if unknown:
        raise CouponInvalid("amounts", f"{unknown[0]!r} cannot be invoiced here")
    check_discount(Discount(percent=percent, amounts=amounts))
    if periods is not None and not 1 <= periods <= PERIODS_MAX:
        raise CouponInvalid("periods", f"must be from 1 to {PERIODS_MAX}, or null for all")
    if expires_at is not None and expires_at <= now:
        raise CouponInvalid("expires_at", "is in the past")
    found = list(Plan.objects.filter(key__in=plans))
    missing = sorted(set(plans) - {plan.key for plan in found})
    if missing:
        raise CouponInvalid("plans", f"there is no plan {missing[0]!r}")
    with transaction.atomic():
        coupon = Coupon(
            code=code,
            name=name,
            percent=percent,
            amounts=dict(amounts or {}),
            periods=periods,
            max_redemptions=max_redemptions,
            expires_at=expires_at,
            created_at=now,
        )
        try:
            with transaction.atomic():
                coupon.save(force_insert=True)
        except IntegrityError as error:
            raise CouponCodeTaken(f"There is a coupon {code} already.") from error
        coupon.plans.set(found)
        audit(actor=actor, action="coupon.created", subject=coupon.public_id, now=now)
    return coupon


def archive_coupon(coupon_id: int, *, actor: str, now: datetime) -> Coupon:
    """Let nobody redeem it any more; who has, keeps it. Archiving twice changes nothing.

    Raises CouponUnknown.
    """
    with transaction.atomic():
        coupon = Coupon.objects.select_for_update().filter(pk=coupon_id).first()
        if coupon is None:
            raise CouponUnknown("There is no such coupon.")
        if coupon.archived_at is None:
            coupon.archived_at = now
            coupon.save(update_fields=["archived_at"])
            audit(actor=actor, action="coupon.archived", subject=coupon.public_id, now=now)
    return coupon


def redeem(customer_id: int, *, code: str, actor: str, now: datetime) -> CouponRedemption:
    """Let a coupon count for the customer from the period under way on.

    A customer redeems each coupon once ever; however many do at once, never more than
    `max_redemptions`. Raises CouponInvalid, CouponUnknown, CouponRefused, CustomerUnknown.
    """
    with transaction.atomic():
        customer = lock_customer(customer_id)
        coupon = Coupon.objects.filter(code=code_of(code)).first()
        if coupon is None:
            raise CouponUnknown(
                "There is no coupon with this code: look whether it is typed right."
            )
        if CouponRedemption.objects.filter(customer_id=customer_id, coupon=coupon).exists():
            raise CouponRefused(f"The coupon {coupon.code} was redeemed here before.")
        if coupon.percent is None and customer.currency not in coupon.amounts:
            raise CouponRefused(
                f"The coupon {coupon.code} takes off amounts in"
                f" {', '.join(sorted(coupon.amounts)).upper()}, the customer pays in"
                f" {customer.currency.upper()}."
            )
        coupon = _counted(coupon, now=now)
        redemption = CouponRedemption.objects.create(
            coupon=coupon, customer_id=customer_id, redeemed_at=now
        )
        audit(
            actor=actor,
            action="coupon.redeemed",
            subject=redemption.public_id,
            customer_id=customer_id,
            changes={"code": coupon.code},
            now=now,
        )
    return redemption


def end_redemption(
    redemption_id: int, *, customer_id: int | None = None, actor: str, now: datetime
) -> CouponRedemption:
    """Let a redeemed coupon count no more, the period under way included; what was billed stays.

    The customer cannot redeem it again, and it counts as redeemed. Twice changes nothing.
    `customer_id`: whose it must be. Raises RedemptionUnknown.
    """
    with transaction.atomic():
        found = CouponRedemption.objects.filter(pk=redemption_id).select_related("coupon")
        if customer_id is not None:
            found = found.filter(customer_id=customer_id)
        owner = found.values_list("customer_id", flat=True).first()
        if owner is None:
            raise RedemptionUnknown("The customer has not redeemed this.")
        lock_customer(owner)
        redemption = found.get()
        if redemption.ended_at is None:
            redemption.ended_at = now
            redemption.save(update_fields=["ended_at"])
            audit(
                actor=actor,
                action="coupon.ended",
                subject=redemption.public_id,
                customer_id=owner,
                changes={"code": redemption.coupon.code},
                now=now,
            )
    return redemption


def _counted(coupon: Coupon, *, now: datetime) -> Coupon:
    """Count one redemption more, if the coupon may still be redeemed."""
    coupon = Coupon.objects.select_for_update().get(pk=coupon.pk)
    if coupon.archived_at is not None or (
        coupon.expires_at is not None and coupon.expires_at <= now
    ):
        raise CouponRefused(f"The coupon {coupon.code} is over.")
    if coupon.max_redemptions is not None and coupon.redemptions >= coupon.max_redemptions:
        raise CouponRefused(f"The coupon {coupon.code} is used up.")
    coupon.redemptions += 1
    coupon.save(update_fields=["redemptions"])
    return coupon
