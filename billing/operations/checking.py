"""The invariants of billing, checked where they matter: in production."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import connection

from accounts.domain.ids import encode
from billing.domain.money import CURRENCIES

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Broken:
    """One thing that is not as it must be."""

    invariant: str  # I5, I6, I7, I9 of docs/architecture.md
    subject: str  # public id
    detail: str


# I5: the total of an invoice is the sum of its lines.
_LINES: Final = """
SELECT invoice.id, format('total %%s, lines %%s', invoice.total, coalesce(sum(line.amount), 0))
  FROM billing_invoice AS invoice LEFT JOIN billing_invoiceline AS line
    ON line.invoice_id = invoice.id
 GROUP BY invoice.id
HAVING invoice.total <> coalesce(sum(line.amount), 0)
"""
# I6: the entries of a posting sum to zero in each currency, and there are some.
_POSTINGS: Final = """
SELECT posting.id, format('%%s sums to %%s', posting.key, coalesce(sum(entry.amount), 0))
  FROM billing_ledgerposting AS posting LEFT JOIN billing_ledgerentry AS entry
    ON entry.posting_id = posting.id
 GROUP BY posting.id, entry.currency
HAVING coalesce(sum(entry.amount), 0) <> 0 OR count(entry.id) = 0
"""
# I6: what a customer owes by the ledger is what its invoices say is due.
_RECEIVABLE: Final = """
WITH booked AS (
    SELECT posting.customer_id, entry.currency, sum(entry.amount) AS amount
      FROM billing_ledgerentry AS entry JOIN billing_ledgerposting AS posting
        ON posting.id = entry.posting_id
     WHERE entry.account = 'receivable'
     GROUP BY posting.customer_id, entry.currency
), owed AS (
    SELECT customer_id, currency,
           sum(CASE status WHEN 'open' THEN total + tax_added - amount_paid
                           WHEN 'void' THEN -amount_paid
                           WHEN 'uncollectible' THEN 0
                           ELSE least(total + tax_added - amount_paid, 0) END) AS amount
      FROM billing_invoice
     WHERE status <> 'draft' AND carried_to_id IS NULL AND total > 0 AND wallet_id IS NULL
     GROUP BY customer_id, currency
)
SELECT customer_id, format('receivable %%s, due %%s %%s', coalesce(booked.amount, 0),
                           coalesce(owed.amount, 0), currency)
  FROM booked FULL JOIN owed USING (customer_id, currency)
 WHERE coalesce(booked.amount, 0) <> coalesce(owed.amount, 0)
"""
# I6: a wallet holds what the ledger says we owe from it; %(exponents)s are the currencies'.
_WALLETS: Final = """
SELECT wallet.id, format('holds %%s, the ledger says %%s minor units', wallet.balance,
                         coalesce(-sum(entry.amount), 0))
  FROM billing_wallet AS wallet
  LEFT JOIN billing_ledgerposting AS posting ON posting.customer_id = wallet.customer_id
  LEFT JOIN billing_ledgerentry AS entry
    ON entry.posting_id = posting.id AND entry.account = 'wallet'
   AND entry.currency = wallet.currency
 GROUP BY wallet.id
HAVING wallet.balance < 0
    OR wallet.balance * power(10::numeric, (%(exponents)s::jsonb ->> wallet.currency)::int)
       <> coalesce(-sum(entry.amount), 0)
"""
# I6: what came in for a top-up went into its wallet, once; and it was not paid from a wallet.
_TOP_UPS: Final = """
SELECT invoice.id, format('paid %%s, the wallet got %%s', invoice.amount_paid,
                          coalesce(-sum(entry.amount), 0))
  FROM billing_invoice AS invoice
  LEFT JOIN billing_ledgerposting AS posting
    ON posting.invoice_id = invoice.id AND posting.kind IN ('wallet_top_up', 'wallet_draw')
  LEFT JOIN billing_ledgerentry AS entry
    ON entry.posting_id = posting.id AND entry.account = 'wallet'
 WHERE invoice.wallet_id IS NOT NULL
 GROUP BY invoice.id
HAVING invoice.amount_paid <> coalesce(-sum(entry.amount), 0)
"""
# I6: what is left of a customer's credits is what the ledger says we owe it, and what was used of
# each is what invoices used.
_CREDITS: Final = """
WITH booked AS (
    SELECT posting.customer_id, entry.currency, -sum(entry.amount) AS amount
      FROM billing_ledgerentry AS entry JOIN billing_ledgerposting AS posting
        ON posting.id = entry.posting_id
     WHERE entry.account = 'customer_credit'
     GROUP BY posting.customer_id, entry.currency
), used AS (
    SELECT credit_id, sum(amount) AS amount FROM billing_credituse GROUP BY credit_id
), kept AS (
    SELECT credit.customer_id, credit.currency,
           sum(credit.amount - credit.used - credit.expired) AS amount,
           sum(abs(credit.used - coalesce(used.amount, 0))) AS unexplained
      FROM billing_credit AS credit LEFT JOIN used ON used.credit_id = credit.id
     GROUP BY credit.customer_id, credit.currency
)
SELECT customer_id, format('credit %%s, the ledger says %%s %%s', coalesce(kept.amount, 0),
                           coalesce(booked.amount, 0), currency)
  FROM booked FULL JOIN kept USING (customer_id, currency)
 WHERE coalesce(booked.amount, 0) <> coalesce(kept.amount, 0) OR kept.unexplained <> 0
"""
# I7: the newest answer of Stripe that tells a total tells ours, with the tax that Stripe added.
_STRIPE: Final = """
SELECT invoice.id, format('total %%s %%s, at Stripe %%s %%s', invoice.total + invoice.tax_added,
                          invoice.currency,
                          told.answer ->> 'total', told.answer ->> 'currency')
  FROM billing_invoice AS invoice
 CROSS JOIN LATERAL (
    SELECT step.answer FROM billing_stripestep AS step
     WHERE step.invoice_id = invoice.id AND step.state = 'done'
       AND step.kind IN ('compare', 'finalize', 'pay') AND step.answer ->> 'total' IS NOT NULL
     ORDER BY step.answered_at DESC NULLS LAST, step.id DESC LIMIT 1) AS told
 WHERE invoice.push = 'pushed'
   AND ((told.answer ->> 'total')::bigint, told.answer ->> 'currency')
       IS DISTINCT FROM (invoice.total + invoice.tax_added, invoice.currency)
"""
# I9: entitlements from subscriptions are what plan and subscription say. What an operator gave
# wins over the plan, so a right it takes the place of may be missing; and a right that was agreed
# with a customer otherwise (a feature, a rate, the longer window of a meter) is not the plan's.
_RIGHTS: Final = """
WITH wanted AS (
    SELECT subscription.customer_id, given.kind, given.meter_id, given.feature, given.value,
           CASE WHEN given.window = 'period' THEN version.interval ELSE given.window END AS span,
           given.included, given.unlimited,
           CASE WHEN subscription.status = 'trialing' THEN 'deny' ELSE given.over END AS over,
           given.overage_limit, date_trunc('second', subscription.anchor_at) AS anchor_at
      FROM billing_subscription AS subscription
      JOIN billing_planversion AS version ON version.id = subscription.version_id
      JOIN billing_planentitlement AS given ON given.version_id = version.id
     WHERE subscription.status <> 'canceled'
), otherwise AS (
    SELECT customer_id, meter_id, feature, terms ->> 'window' AS span FROM billing_override
     WHERE starts_at <= %(now)s AND (ends_at IS NULL OR ends_at > %(now)s OR due_at IS NOT NULL)
), found AS (
    SELECT customer_id, kind, meter_id, feature, value, "window" AS span, included, unlimited,
           over, overage_limit, anchor_at
      FROM metering_entitlement WHERE source LIKE 'sub\\_%%'
), missing AS (SELECT * FROM wanted EXCEPT SELECT * FROM found),
   foreign_ones AS (SELECT * FROM found EXCEPT SELECT * FROM wanted),
   wrong AS (SELECT 'missing' AS how, * FROM missing
             UNION ALL SELECT 'not sold' AS how, * FROM foreign_ones)
SELECT customer_id, format('entitlement %%s: %%s %%s', how, meter_id, feature) FROM wrong
 WHERE NOT EXISTS (
    SELECT FROM otherwise
     WHERE otherwise.customer_id = wrong.customer_id AND otherwise.feature = wrong.feature
       AND otherwise.meter_id IS NOT DISTINCT FROM wrong.meter_id
       AND (wrong.meter_id IS NULL
            OR CASE WHEN otherwise.span IN ('minute', 'hour') THEN otherwise.span END
               IS NOT DISTINCT FROM CASE WHEN wrong.span IN ('minute', 'hour') THEN wrong.span END))
   AND (how = 'not sold' OR NOT EXISTS (
    SELECT FROM metering_entitlement AS own
     WHERE own.customer_id = wrong.customer_id AND own.source NOT LIKE 'sub\\_%%'
       AND own.feature = wrong.feature AND own.meter_id IS NOT DISTINCT FROM wrong.meter_id
       AND (own."window" IN ('minute', 'hour')) = (wrong.span IN ('minute', 'hour'))))
"""
# I9: who may not be served is denied, who may be is not. A trial at its end may be either.
_STANDING: Final = """
SELECT subscription.customer_id,
       format('subscription %%s, denied from %%s as %%s', subscription.status,
              coalesce(standing.deny_at::text, 'never'), coalesce(standing.deny_code, 'none'))
  FROM billing_subscription AS subscription
  LEFT JOIN metering_standing AS standing USING (customer_id)
 WHERE subscription.status NOT IN ('canceled', 'trialing')
   AND (standing.customer_id IS NOT NULL AND coalesce(standing.deny_at <= %(now)s, false))
       IS DISTINCT FROM (
           subscription.status IN ('paused', 'unpaid', 'incomplete')
           OR coalesce(subscription.grace_ends_at <= %(now)s, false)
           OR coalesce(subscription.cancel_at <= %(now)s, false))
"""
_CHECKS: Final = (
    ("I5", "inv", _LINES),
    ("I6", "led", _POSTINGS),
    ("I6", "cus", _RECEIVABLE),
    ("I6", "wal", _WALLETS),
    ("I6", "inv", _TOP_UPS),
    ("I6", "cus", _CREDITS),
    ("I7", "inv", _STRIPE),
    ("I9", "cus", _RIGHTS),
    ("I9", "cus", _STANDING),
)


def broken_invariants(*, now: datetime) -> list[Broken]:
    """All that is wrong with billing; nothing, if all is well. Changes nothing."""
    return [broken for check in _CHECKS for broken in _run(*check, now=now)]


def report(*, now: datetime) -> int:
    """Log what is wrong, each as an error; returns how much."""
    found = broken_invariants(now=now)
    for broken in found:
        logger.error("%s is broken: %s %s", broken.invariant, broken.subject, broken.detail)
    return len(found)


def _run(invariant: str, prefix: str, statement: str, *, now: datetime) -> Iterator[Broken]:
    exponents = json.dumps({row.code: row.exponent for row in CURRENCIES.values()})
    with connection.cursor() as cursor:
        cursor.execute(statement, {"now": now, "exponents": exponents})
        rows = cursor.fetchall()
    for number, detail in rows:
        yield Broken(invariant, encode(prefix, number), detail)
