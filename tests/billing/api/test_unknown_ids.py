"""Ids of nothing are 404, whatever would have been done with them. (Who may: tests/config.)"""

from __future__ import annotations

import pytest

from tests.billing.api.conftest import Caller

pytestmark = pytest.mark.django_db
PLAN, VERSION = "plan_000000000009", "pv_000000000009"
SUBSCRIPTION, INVOICE = "sub_000000000009", "inv_000000000009"


@pytest.mark.parametrize(
    "path",
    [
        f"plans/{PLAN}",
        f"plans/{PLAN}/versions",
        f"plans/{PLAN}/versions/{VERSION}",
        f"subscriptions/{SUBSCRIPTION}",
        f"subscriptions/{INVOICE}",
        f"invoices/{INVOICE}",
        "invoices/nonsense",
        f"invoices/{INVOICE}/credit-notes",
        "wallets/wal_000000000009",
        "checkout-sessions/chk_000000000009",
        "customers/cus_000000000009/invoice-preview",
        "customers/nobody/state",
        "events/evt_nonsense",
    ],
)
def test_what_does_not_exist_is_not_seen(operator: Caller, path: str) -> None:
    answer = operator.get(f"/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "path",
    [
        f"plans/{PLAN}/archive",
        f"plans/{PLAN}/versions",
        f"plans/{PLAN}/versions/{VERSION}/activate",
        *(f"subscriptions/{SUBSCRIPTION}/{verb}" for verb in ("change", "change/preview", "pause")),
        *(f"subscriptions/{SUBSCRIPTION}/{verb}" for verb in ("resume", "cancel", "keep")),
        *(f"invoices/{INVOICE}/{verb}" for verb in ("void", "mark-uncollectible", "mark-paid")),
        f"invoices/{INVOICE}/credit-notes",
    ],
)
def test_what_does_not_exist_is_not_changed(operator: Caller, path: str) -> None:
    answer = operator.post(f"/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
