"""Everything that is kept of a customer, for whoever asks for their data."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final

from django.db import connection, transaction

_AT_ONCE = 2_000
# A snapshot keeps vacuum from its work: whoever stops reading loses it.
_PAUSE_MAX: Final = "1min"
# Table -> what of a row is left out: a secret, or what another column says.
TABLES: Final[dict[str, tuple[str, ...]]] = {
    "accounts_customer": (),
    "accounts_member": ("password",),
    "accounts_apikey": ("digest",),
    "accounts_auditentry": (),
    "metering_standing": (),
    "metering_entitlement": (),
    "metering_grant": (),
    "metering_balance": (),
    "metering_hold": (),
    "metering_reportedevent": ("hour",),
    "metering_correction": (),
    "metering_denial": (),
    "metering_quarantinedevent": (),
    "metering_rollup": (),
    "metering_rollupmember": (),
    "metering_windowmember": (),
    "metering_rollover": (),
    "metering_stagedevent": (),
    "billing_billingdetails": (),
    "billing_spendlimit": (),
    "billing_override": (),
    "billing_couponredemption": (),
    "billing_subscription": (),
    "billing_subscriptionphase": (),
    "billing_migratedsubscription": (),
    "billing_billedusage": (),
    "billing_invoice": (),
    "billing_simulatedrevenue": (),
    "billing_creditnote": (),
    "billing_paymentattempt": (),
    "billing_wallet": (),
    "billing_autotopup": (),
    "billing_credit": (),
    "billing_credituse": (),
    "billing_ledgerposting": (),
    "billing_ledgerentry": (),
    "billing_stripecustomer": (),
    "billing_checkoutsession": (),
    "billing_dispute": (),
}
# Tables that do not name the customer -> by which column, of what that does.
_THROUGH: Final[dict[str, tuple[str, str]]] = {
    "billing_subscriptionphase": ("subscription_id", "billing_subscription"),
    "billing_billedusage": ("subscription_id", "billing_subscription"),
    "billing_creditnote": ("invoice_id", "billing_invoice"),
    "billing_paymentattempt": ("invoice_id", "billing_invoice"),
    "billing_ledgerentry": ("posting_id", "billing_ledgerposting"),
    "billing_credituse": ("credit_id", "billing_credit"),
    "billing_autotopup": ("wallet_id", "billing_wallet"),
}


def customer_data(customer_id: int) -> Generator[str]:
    """One JSON text per row, `{"table": …, "row": {…}}`, all of one snapshot, streamed.

    Secrets are left out: digests of keys and passwords. Invoices come with their lines. Raises
    OperationalError for whoever waits more than a minute between two rows.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{_PAUSE_MAX}'")
        for table, secrets in TABLES.items():
            yield from _rows(table, secrets, customer_id)


def _rows(table: str, secrets: tuple[str, ...], customer_id: int) -> Iterator[str]:
    owner = "id" if table == "accounts_customer" else "customer_id"
    whose = f"kept.{owner} = %(customer_id)s"
    if table in _THROUGH:
        column, parent = _THROUGH[table]
        whose = f"kept.{column} IN (SELECT id FROM {parent} WHERE customer_id = %(customer_id)s)"  # noqa: S608  (of the list above)
    lines = ""
    if table == "billing_invoice":
        lines = (
            " || jsonb_build_object('lines', (SELECT coalesce(jsonb_agg(to_jsonb(line)"
            " ORDER BY line.position), '[]') FROM billing_invoiceline AS line"
            " WHERE line.invoice_id = kept.id))"
        )
    with connection.connection.cursor(name="customer_data") as cursor:
        cursor.itersize = _AT_ONCE
        cursor.execute(
            f"SELECT jsonb_build_object('table', '{table}', 'row',"  # noqa: S608  (of the list above)
            f" (to_jsonb(kept) - %(secrets)s::text[]){lines})::text"
            f" FROM {table} AS kept WHERE {whose}",
            {"secrets": list(secrets), "customer_id": customer_id},
        )
        for (text,) in cursor:
            yield text
