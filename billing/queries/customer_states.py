"""All that is known of a customer at a moment, as the contract shows it (GET …/state)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from accounts.models import Customer
from billing.domain.invoices import InvoiceDraft
from billing.models import PlanVersion, StripeCustomer, Subscription, Wallet
from billing.queries.credits import credits_left
from billing.queries.invoices import invoice_preview, open_invoices
from billing.queries.period_fees import period_fee
from billing.queries.subscriptions import subscriptions
from billing.queries.trials import after_trial
from metering.queries.balances import BalanceView, EntitlementsView, entitlements

Json = dict[str, Any]
_SECOND = timedelta(seconds=1)


def customer_state(customer: Customer, *, now: datetime) -> Json:
    """The body: JSON throughout, times as RFC 3339, money as minor units with its currency.

    `subscription` is the one that holds, or the last one; null where there never was one.
    `forecast` goes on at the pace of each window so far.
    """
    found = subscriptions(customer_id=customer.id)
    current = found.exclude(status=Subscription.Status.CANCELED).first() or found.first()
    rights = entitlements(customer.id, now=now)
    preview = invoice_preview(current) if current else None
    return {
        "customer": {
            "id": customer.public_id,
            "external_id": customer.external_id,
            "name": customer.name,
            "email": customer.email,
            "currency": customer.currency,
            "suspended": customer.suspended_at is not None,
        },
        "subscription": _subscription(current) if current else None,
        "plan": _plan(current.version) if current else None,
        "standing": _standing(rights, now=now),
        "entitlements": [
            *(_balance(each) for each in rights.balances),
            *(
                {
                    "feature": each.feature,
                    "type": "boolean" if each.value is None else "static",
                    "value": each.value,
                }
                for each in rights.features
            ),
        ],
        "wallets": [
            {"id": wallet.public_id, "balance": str(wallet.balance), "currency": wallet.currency}
            for wallet in Wallet.objects.filter(customer=customer).order_by("currency")
        ],
        "credits": [
            {
                "id": credit.public_id,
                "kind": credit.kind,
                "left": _money(credit.left, credit.currency),
                "priority": credit.priority,
                "expires_at": _time(credit.expires_at),
            }
            for credit in credits_left(customer.id)
        ],
        "payment_method": _payment_method(customer.id),
        "open_invoices": [
            {
                "id": invoice.public_id,
                "number": invoice.number,
                "status": invoice.status,
                "total": _money(invoice.total_with_tax, invoice.currency),
                "tax": _money(invoice.tax, invoice.currency),
                "tax_status": invoice.tax_status or None,
                "amount_due": _money(invoice.amount_due, invoice.currency),
                "due_at": _time(invoice.due_at),
                "failure_code": invoice.failure_code or None,
                "hosted_url": invoice.hosted_url or None,
            }
            for invoice in open_invoices(customer.id)
        ],
        "next_invoice": _preview(preview) if preview else None,
        "forecast": [_forecast(each, now=now) for each in rights.balances],
        "at": _time(now),
    }


def _subscription(subscription: Subscription) -> Json:
    pending = subscription.pending_version
    return {
        "id": subscription.public_id,
        "status": subscription.status,
        "collection": subscription.collection,
        "current_period": {
            "start_at": _time(subscription.current_start_at),
            "end_at": _time(subscription.current_end_at),
        },
        "trial_end_at": _time(subscription.trial_end_at),
        "after_trial": _after_trial(subscription),
        "grace_ends_at": _time(subscription.grace_ends_at),
        "cancel_at": _time(subscription.cancel_at),
        "canceled_at": _time(subscription.canceled_at),
        "pending_plan": pending.plan.key if pending else None,
        "seats": subscription.seats,
    }


def _after_trial(subscription: Subscription) -> Json | None:
    if subscription.status != Subscription.Status.TRIALING:
        return None
    after = after_trial(subscription)
    return {
        "outcome": str(after.outcome),
        "plan": after.version.plan.key,
        "fee": _money(period_fee(after.version, seats=subscription.seats), after.version.currency),
    }


def _plan(version: PlanVersion) -> Json:
    return {
        "id": version.plan.public_id,
        "key": version.plan.key,
        "name": version.plan.name,
        "version": version.public_id,
        "fee": _money(version.fee, version.currency),
        "interval": version.interval,
    }


def _standing(rights: EntitlementsView, *, now: datetime) -> Json:
    denied_later = rights.deny_at is not None and rights.deny_at > now
    return {
        "good": not rights.deny_code and not rights.suspended,
        "code": "customer_suspended" if rights.suspended else rights.deny_code or None,
        "denied_from": _time(rights.deny_at) if denied_later else None,
    }


def _balance(view: BalanceView) -> Json:
    return {
        "meter": view.meter,
        "type": "metered",
        "unit": view.unit,
        "window": view.window,
        "included": view.included,
        "granted": view.granted,
        "used": view.used,
        "held": view.held,
        "remaining": view.remaining,
        "overage": view.overage,
        "overage_limit": view.overage_limit,
        "over": view.over,
        "unlimited": view.unlimited,
        "resets_at": _time(view.resets_at),
    }


def _forecast(view: BalanceView, *, now: datetime) -> Json:
    """At the pace so far: what will be used by the window's end, and when the rest runs out."""
    elapsed = max((now - view.start_at) // _SECOND, 1)
    whole = (view.resets_at - view.start_at) // _SECOND
    exhausted_at = None
    if view.used and not view.unlimited:
        seconds = view.remaining * elapsed // view.used
        if view.remaining and seconds < (view.resets_at - now) // _SECOND:
            exhausted_at = now + timedelta(seconds=seconds)
    return {
        "meter": view.meter,
        "window": view.window,
        "used_at_end": view.used if view.window == "lifetime" else view.used * whole // elapsed,
        "exhausted_at": _time(exhausted_at),
    }


def _payment_method(customer_id: int) -> Json | None:
    card = StripeCustomer.objects.filter(customer_id=customer_id, deleted_at=None).first()
    if card is None or not card.payment_method:
        return None
    return {
        "brand": card.card_brand,
        "last4": card.card_last4,
        "expires_on": card.card_expires_on.isoformat() if card.card_expires_on else None,
    }


def _preview(draft: InvoiceDraft) -> Json:
    return {
        "total": _money(draft.total, draft.currency),
        "period": {
            "start_at": _time(draft.period.start_at),
            "end_at": _time(draft.period.end_at),
        },
        "lines": [
            {
                "kind": str(line.kind),
                "meter": line.meter,
                "quantity": line.quantity,
                "amount": line.amount,
                "description": line.description,
            }
            for line in draft.lines
        ],
    }


def _money(amount: int, currency: str) -> Json:
    return {"amount": amount, "currency": currency}


def _time(at: datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at else None
