"""Topping wallets up through Stripe, when somebody asks and by itself.

A top-up is an invoice of one line that nobody owes: issuing it posts nothing. What comes in for it
goes into its wallet. Of a wallet one at most is under way (constraint).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from accounts.models import Customer
from accounts.operations.auditing import audit
from billing.domain.money import Money, format_money
from billing.domain.top_ups import (
    AutoTopUpTerms,
    automatic_amount,
    check_amount,
    check_terms,
)
from billing.models import AutoTopUp, Invoice, InvoiceLine, StripeCustomer, Wallet
from billing.operations.collecting import void
from billing.operations.invoice_moves import load_invoice
from billing.operations.issuing import next_number
from billing.operations.locking import each_in_turn, lock_customer
from billing.operations.wallets import minor_balance
from billing.queries.parties import buyer, seller
from billing.queries.payment_methods import frozen, has_payment_method
from billing.queries.peers import Peers
from billing.queries.top_ups import (
    running_low,
    top_up_under_way,
    topped_up_in_month,
    unconfirmed,
)

TOP_UP_PREFIX: Final = "TU"
CONFIRM_WITHIN: Final = timedelta(hours=23)
CONFIRMATION_EXPIRED: Final = "confirmation_expired"
_MOMENT: Final = timedelta(seconds=1)  # a period is never empty


class TopUpUnderWay(Exception):
    """One top-up of a wallet at a time: the one before is neither paid nor over."""


class TopUpRefused(Exception):
    """Nothing can be charged for a top-up now; the sentence says why and what to do."""


class TopUpRepeated(Exception):
    """A request is repeated with another amount."""


class AutoTopUpLoosened(Exception):
    """A key in a program lets nothing more be charged: that takes a person."""


class TopUpUnknown(Exception):
    """No top-up of this customer has this id."""


def begin_top_up(
    customer_id: int, *, amount: int, actor: str, request_key: str | None = None, now: datetime
) -> Invoice:
    """Charge the customer's payment method `amount` minor units for its wallet.

    The wallet, in the customer's currency, is made where there is none; it grows once the money
    is in. `request_key` names the request: a repeat gets the top-up that the first one began,
    whatever became of it. Raises TopUpInvalid, TopUpUnderWay, TopUpRefused, TopUpRepeated,
    CustomerUnknown.
    """
    with transaction.atomic():
        customer = lock_customer(customer_id)
        if before := _begun_before(customer, request_key):
            if before.total != amount:
                raise TopUpRepeated(
                    f"This Idempotency-Key has begun the top-up {before.public_id} of another "
                    "amount: use a new key."
                )
            return before
        check_amount(amount, currency=customer.currency)
        _refuse_uncharged(customer)
        wallet = _wallet(customer, now=now)
        under_way = top_up_under_way(wallet.pk)
        if under_way is not None:
            raise TopUpUnderWay(
                f"The top-up {under_way.public_id} is under way: let it be paid, or cancel it."
            )
        return _begin(
            wallet,
            amount=amount,
            automatic=False,
            actor=actor,
            request_key=request_key,
            now=now,
        )


def cancel_top_up(customer_id: int, *, top_up_id: int, actor: str, now: datetime) -> Invoice:
    """Give a top-up up that is not paid; one that is over stays as it is.

    An automatic one stops the others too, until somebody switches them on again. Money that came
    in meanwhile is not lost: it goes into the wallet. Raises TopUpUnknown, TopUpRefused where it
    is paid.
    """
    with transaction.atomic():
        mine = Invoice.objects.filter(pk=top_up_id, customer=customer_id, wallet__isnull=False)
        if not mine.exists():
            raise TopUpUnknown("There is no such top-up.")
        if load_invoice(top_up_id).amount_paid:
            raise TopUpRefused("The top-up is paid already: ask for a refund.")
        return void(top_up_id, actor=actor, now=now)


def set_auto_top_up(
    customer_id: int, *, terms: AutoTopUpTerms, actor: str, now: datetime
) -> AutoTopUp:
    """Top the customer's wallet up by itself from now on; switches on again what was suppressed.

    Raises TopUpInvalid, CustomerUnknown.
    """
    with transaction.atomic():
        customer = lock_customer(customer_id)
        check_terms(terms, currency=customer.currency)
        wallet = _wallet(customer, now=now)
        wanted = {
            "threshold": terms.threshold,
            "amount": terms.amount,
            "monthly_cap": terms.monthly_cap,
            "enabled": True,
            "suppressed_at": None,
            "suppressed_by": None,
        }
        settings, new = AutoTopUp.objects.get_or_create(
            wallet=wallet, defaults={**wanted, "updated_at": now}
        )
        changed = [name for name, value in wanted.items() if getattr(settings, name) != value]
        if new or changed:
            AutoTopUp.objects.filter(pk=settings.pk).update(**wanted, updated_at=now)
            settings.refresh_from_db()
            _audit_settings(settings, "auto_top_up.set", actor=actor, now=now)
    return settings


def tighten_auto_top_up(
    customer_id: int, *, terms: AutoTopUpTerms, actor: str, now: datetime
) -> AutoTopUp:
    """Lower what may be charged by itself; what is suppressed stays so.

    For a customer's own key. Raises AutoTopUpLoosened where anything would rise or be switched on,
    TopUpInvalid, CustomerUnknown.
    """
    with transaction.atomic():
        customer = lock_customer(customer_id)
        check_terms(terms, currency=customer.currency)
        settings = _running(customer)
        if (
            settings is None
            or terms.threshold > settings.threshold
            or terms.amount > settings.amount
            or terms.monthly_cap > settings.monthly_cap
        ):
            raise AutoTopUpLoosened(
                "With a key automatic top-ups can be lowered and switched off; switching them on "
                "and raising them takes a person, in the portal."
            )
        settings.threshold, settings.amount = terms.threshold, terms.amount
        settings.monthly_cap, settings.updated_at = terms.monthly_cap, now
        settings.save()
        _audit_settings(settings, "auto_top_up.set", actor=actor, now=now)
    return settings


def stop_auto_top_up(customer_id: int, *, actor: str, now: datetime) -> None:
    """Begin no more top-ups by itself; the terms stay to be switched on again.

    One that is under way goes on. Raises CustomerUnknown.
    """
    with transaction.atomic():
        customer = lock_customer(customer_id)
        settings = _running(customer)
        if settings is not None:
            settings.enabled, settings.suppressed_at, settings.suppressed_by = False, None, None
            settings.updated_at = now
            settings.save()
            _audit_settings(settings, "auto_top_up.stopped", actor=actor, now=now)


def top_up_due(*, now: datetime, limit: int) -> int:
    """Begin the top-ups of up to `limit` wallets that hold less than their threshold; of how many.

    At once with itself and with anything else that moves the wallet: the customer is locked, so
    that what a wallet gets by itself in a calendar month is never more than its cap. One that
    fails is logged and goes to the end of the queue. Call it outside any transaction.
    """
    begun = 0
    for claim in list(running_low().values_list("wallet__customer_id", "wallet_id")[:limit]):
        AutoTopUp.objects.filter(wallet=claim[1]).update(checked_at=now)
        begun += each_in_turn([claim], work=lambda found: _fill(found, now=now), what="topping up")
    return begun


def end_unconfirmed(*, now: datetime, limit: int) -> int:
    """Give up to `limit` top-ups up that waited a day for the customer to confirm; how many.

    They have failed with the code `confirmation_expired`. Money that is confirmed meanwhile is not
    lost: it goes into the wallet.
    """
    claims = unconfirmed(before=now - CONFIRM_WITHIN).values_list("customer_id", "id")[:limit]
    return each_in_turn(
        list(claims), work=lambda found: _end_unconfirmed(found, now=now), what="ending a top-up"
    )


def _end_unconfirmed(top_up_id: int, *, now: datetime) -> bool:
    ended = unconfirmed(before=now - CONFIRM_WITHIN).filter(pk=top_up_id)
    if not ended.update(failure_code=CONFIRMATION_EXPIRED):
        return False
    void(top_up_id, actor="system", now=now)
    return True


def _fill(wallet_id: int, *, now: datetime) -> bool:
    settings = running_low().filter(wallet=wallet_id).select_related("wallet").first()
    if settings is None:
        return False
    wallet = settings.wallet
    amount = automatic_amount(
        AutoTopUpTerms(settings.threshold, settings.amount, settings.monthly_cap),
        balance=minor_balance(wallet),
        topped_up=topped_up_in_month(wallet_id, at=now),
    )
    if not amount or frozen([wallet.customer_id]):
        return False
    _begin(wallet, amount=amount, automatic=True, actor="system", now=now)
    return True


def _begin(
    wallet: Wallet,
    *,
    amount: int,
    automatic: bool,
    actor: str,
    request_key: str | None = None,
    now: datetime,
) -> Invoice:
    customer, end_at = wallet.customer, now + _MOMENT
    invoice = Invoice.objects.create(
        customer=customer,
        wallet=wallet,
        automatic=automatic,
        request_key=request_key,
        currency=wallet.currency,
        period_start_at=now,
        period_end_at=end_at,
        total=amount,
        created_at=now,
        seller=seller().to_json(),
        buyer=buyer(customer, peers=Peers([customer.pk])).to_json(),
    )
    InvoiceLine.objects.create(
        invoice=invoice,
        position=0,
        kind=InvoiceLine.Kind.TOP_UP,
        description="Top-up of your wallet",
        amount=amount,
        start_at=now,
        end_at=end_at,
    )
    invoice.status, invoice.push = Invoice.Status.OPEN, Invoice.Push.PENDING
    invoice.issued_at = invoice.due_at = invoice.next_push_at = now
    invoice.number = next_number(TOP_UP_PREFIX)
    invoice.save()
    audit(
        actor=actor,
        action="top_up.begun",
        subject=invoice.public_id,
        customer_id=customer.pk,
        changes={"amount": amount, "automatic": automatic, "wallet": wallet.public_id},
        now=now,
    )
    return invoice


def _begun_before(customer: Customer, request_key: str | None) -> Invoice | None:
    if request_key is None:
        return None
    return Invoice.objects.filter(customer=customer, request_key=request_key).first()


def _wallet(customer: Customer, *, now: datetime) -> Wallet:
    wallet, _ = Wallet.objects.get_or_create(
        customer=customer, currency=customer.currency, defaults={"created_at": now}
    )
    return wallet


def _running(customer: Customer) -> AutoTopUp | None:
    mine = AutoTopUp.objects.filter(wallet__customer=customer, wallet__currency=customer.currency)
    return mine.filter(enabled=True).first()


def _refuse_uncharged(customer: Customer) -> None:
    if not has_payment_method(customer.pk):
        raise TopUpRefused("There is no payment method to charge: add one first.")
    if StripeCustomer.objects.filter(customer=customer, held_at__isnull=False).exists():
        raise TopUpRefused("Nothing is collected from this customer until an operator releases it.")


def _audit_settings(settings: AutoTopUp, action: str, *, actor: str, now: datetime) -> None:
    def shown(amount: int) -> str:
        return format_money(Money(amount, settings.wallet.currency))

    audit(
        actor=actor,
        action=action,
        subject=settings.wallet.public_id,
        customer_id=settings.wallet.customer_id,
        changes={
            "threshold": shown(settings.threshold),
            "amount": shown(settings.amount),
            "monthly_cap": shown(settings.monthly_cap),
        },
        now=now,
    )
