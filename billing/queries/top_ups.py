"""Top-ups of wallets: what is under way, what came in by itself, whose wallets run low."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, Sum, Value, When
from django.db.models import DecimalField as Exact

from accounts.models import Customer
from billing.domain.money import CURRENCIES
from billing.domain.steps import StepKind
from billing.domain.top_ups import month_of
from billing.models import AutoTopUp, Invoice, PaymentAttempt, StripeStep, Subscription, Wallet


@dataclass(frozen=True, slots=True)
class AutoTopUpView:
    """A customer's wallet and what it gets by itself, in minor units; None: never set.

    `topped_up`: of `monthly_cap`, what this calendar month (UTC) has had or may still get.
    """

    currency: str
    balance: Decimal  # in major units
    enabled: bool
    threshold: int | None
    amount: int | None
    monthly_cap: int | None
    topped_up: int
    suppressed_at: datetime | None
    suppressed_by: Invoice | None
    suppressed_code: str | None  # of the payment that failed, "refunded" or "canceled"


UNDER_WAY: Final = (Invoice.Status.DRAFT, Invoice.Status.OPEN)
_EXACT: Final = Exact(max_digits=40, decimal_places=12)


def top_ups(customer_id: int) -> QuerySet[Invoice]:
    """The customer's top-ups, newest first."""
    found = Invoice.objects.filter(customer_id=customer_id, wallet__isnull=False)
    return found.select_related("wallet").order_by("-id")


def top_up_under_way(wallet_id: int) -> Invoice | None:
    """The wallet's one top-up that is neither paid nor over."""
    return Invoice.objects.filter(wallet=wallet_id, status__in=UNDER_WAY).first()


def unconfirmed(*, before: datetime) -> QuerySet[Invoice]:
    """Top-ups that wait for the customer to confirm, last asked before this; oldest first."""
    asked = PaymentAttempt.objects.filter(invoice=OuterRef("pk"))
    return Invoice.objects.filter(
        Exists(asked.filter(outcome=PaymentAttempt.Outcome.ACTION_REQUIRED)),
        ~Exists(asked.filter(at__gt=before)),
        wallet__isnull=False,
        status=Invoice.Status.OPEN,
    ).order_by("id")


def topped_up_in_month(wallet_id: int, *, at: datetime) -> int:
    """What the wallet got, or may still get, by itself in the calendar month that `at` is in.

    In minor units. A top-up counts in the month in which it began and in that in which it was
    paid; one that is over unpaid counts until Stripe has said that it cannot be paid any more.
    """
    begin = month_of(at)
    sent = StripeStep.objects.filter(invoice=OuterRef("pk"))
    ended = sent.filter(kind=StepKind.VOID.value, answer__status="void")
    hopeless = Q(status=Invoice.Status.VOID, amount_paid=0) & (~Exists(sent) | Exists(ended))
    counted = Invoice.objects.filter(
        Q(status__in=UNDER_WAY) | Q(created_at__gte=begin) | Q(paid_at__gte=begin),
        wallet=wallet_id,
        automatic=True,
    ).exclude(hopeless)
    return counted.aggregate(total=Sum("total"))["total"] or 0


def auto_top_up_view(customer: Customer, *, now: datetime) -> AutoTopUpView:
    """What the wallet in the customer's currency gets by itself; nothing where there is none."""
    wallet = Wallet.objects.filter(customer=customer, currency=customer.currency).first()
    mine = AutoTopUp.objects.filter(wallet=wallet).select_related("suppressed_by")
    terms = mine.first() if wallet else None
    stopped_by = terms.suppressed_by if terms else None
    return AutoTopUpView(
        currency=customer.currency,
        balance=wallet.balance if wallet else Decimal(0),
        enabled=terms is not None and terms.enabled,
        threshold=terms.threshold if terms else None,
        amount=terms.amount if terms else None,
        monthly_cap=terms.monthly_cap if terms else None,
        topped_up=topped_up_in_month(wallet.pk, at=now) if wallet else 0,
        suppressed_at=terms.suppressed_at if terms else None,
        suppressed_by=stopped_by,
        suppressed_code=_why(stopped_by) if stopped_by else None,
    )


def _why(stopped_by: Invoice) -> str:
    if stopped_by.failure_code:
        return stopped_by.failure_code
    return "refunded" if stopped_by.amount_paid else "canceled"


def running_low() -> QuerySet[AutoTopUp]:
    """The settings of wallets that hold less than their threshold and may be topped up by
    themselves as far as the row says; those looked at longest ago first. Whoever has left, or
    is not known to Stripe, is not charged any more."""
    places = [
        When(wallet__currency=each.code, then=Value(10**each.exponent))
        for each in CURRENCIES.values()
        if each.exponent != 2
    ]
    open_ones = Invoice.objects.filter(wallet=OuterRef("wallet"), status__in=UNDER_WAY)
    subscribed = Subscription.objects.filter(customer=OuterRef("wallet__customer")).exclude(
        status=Subscription.Status.CANCELED
    )
    return (
        AutoTopUp.objects.alias(
            held=F("wallet__balance") * Case(*places, default=Value(100), output_field=_EXACT)
        )
        .filter(
            ~Exists(open_ones),
            Exists(subscribed),
            enabled=True,
            suppressed_at=None,
            held__lt=F("threshold"),
            wallet__customer__suspended_at=None,
            wallet__customer__stripe__isnull=False,
            wallet__customer__stripe__deleted_at=None,
            wallet__customer__stripe__held_at=None,
        )
        .exclude(wallet__customer__stripe__payment_method="")
        .order_by(F("checked_at").asc(nulls_first=True), "wallet_id")
    )
