"""The doors of credits."""

from __future__ import annotations

from typing import Any

import pytest

from billing.models import Credit, LedgerPosting
from tests.billing.api.conftest import Caller
from tests.factories.accounts import a_customer


def test_one_is_granted_seen_and_ended(operator: Caller) -> None:
    customer = a_customer(external_id="acme")
    asked = {"customer": "acme", "amount": 500, "expires_at": "2999-01-01T00:00:00Z"}
    made = operator.made("/credits", asked)
    assert made["id"].startswith("cred_")
    assert made | {"id": "", "granted_at": ""} == {
        "id": "",
        "customer": customer.public_id,
        "currency": "usd",
        "kind": "promotional",
        "amount": 500,
        "used": 0,
        "expired": 0,
        "left": 500,
        "priority": 0,
        "reason": "",
        "granted_at": "",
        "expires_at": "2999-01-01T00:00:00Z",
    }
    a_customer(external_id="other")
    paid = operator.made(
        "/credits", {"customer": "other", "amount": 5, "kind": "paid", "reason": "wire 7"}
    )
    assert (paid["priority"], paid["reason"]) == (100, "wire 7")
    assert operator.seen("/credits", customer="acme")["data"] == [made]
    assert operator.seen("/credits")["data"] == [paid, made]
    state = operator.seen("/customers/acme/state")["credits"]
    assert state == [
        {
            "id": made["id"],
            "kind": "promotional",
            "left": {"amount": 500, "currency": "usd"},
            "priority": 0,
            "expires_at": "2999-01-01T00:00:00Z",
        }
    ]
    ended = operator.made(f"/credits/{made['id']}/end")
    assert (ended["left"], ended["expired"]) == (0, 500)
    assert operator.seen(f"/credits/{made['id']}") == ended
    assert operator.seen("/customers/acme/state")["credits"] == []


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        ({"amount": 0}, "amount"),
        ({"amount": 1.5}, "amount"),
        ({"kind": "loan"}, "kind"),
        ({"priority": 1_001}, "priority"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    ],
)
def test_what_is_no_credit_is_422(operator: Caller, terms: dict[str, Any], param: str) -> None:
    customer = a_customer()
    answer = operator.post("/credits", {"customer": customer.public_id, "amount": 5, **terms})
    assert (answer.status_code, answer.json()["param"]) == (422, param)
    assert not Credit.objects.exists()
    assert not LedgerPosting.objects.exists()


def test_what_is_not_there_is_404(operator: Caller) -> None:
    assert operator.get("/credits/cred_1").status_code == 404
    gone = Credit(id=5).public_id
    assert operator.get(f"/credits/{gone}").status_code == 404
    assert operator.post(f"/credits/{gone}/end").status_code == 404
