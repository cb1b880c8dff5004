"""Whoever was erased is nobody to the gate, and is not brought back by halves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from accounts.models import ApiKey, AuditEntry, Customer
from accounts.operations import customers, keys
from accounts.operations.erasing import CustomerErased
from tests.factories.accounts import ACTOR, NOW, an_api_key, an_erased_customer

pytestmark = pytest.mark.django_db
BY: dict[str, Any] = {"actor": ACTOR, "now": NOW}


@pytest.fixture
def erased() -> Customer:
    key, _ = an_api_key()
    found = an_erased_customer()
    ApiKey.objects.filter(id=key.id).update(customer=found)  # made before that was refused
    return found


ASKED: list[Callable[[Customer], object]] = [
    lambda customer: customers.resume_customer(customer.id, **BY),
    lambda customer: keys.issue_api_key(customer.id, name="new", **BY),
    lambda _: keys.rotate_api_key(ApiKey.objects.get().id, overlap_seconds=0, **BY),
]


@pytest.mark.parametrize("ask", ASKED, ids=["resume", "issue", "rotate"])
def test_nothing_brings_it_back(erased: Customer, ask: Callable[[Customer], object]) -> None:
    rows = list(Customer.objects.values()), list(ApiKey.objects.values())
    said = AuditEntry.objects.count()
    with pytest.raises(CustomerErased, match="was erased, which is for good"):
        ask(erased)
    assert (list(Customer.objects.values()), list(ApiKey.objects.values())) == rows
    assert AuditEntry.objects.count() == said


def test_what_takes_away_stays_possible(erased: Customer) -> None:
    keys.revoke_api_key(ApiKey.objects.get().id, **BY)
    assert ApiKey.objects.get().revoked_at == NOW
    assert customers.suspend_customer(erased.id, **BY).suspended_at == NOW
