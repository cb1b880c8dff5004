"""Creating, changing, suspending and resuming customers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from accounts.models import AuditEntry, Customer, CustomerVersion
from accounts.operations import customers, versions
from tests.factories.accounts import ACTOR, NOW, a_customer

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(hours=1)


def version_of(customer: Customer) -> int:
    return CustomerVersion.objects.get(customer=customer).version


def test_a_customer_comes_with_its_version() -> None:
    customer = customers.create_customer(name="Acme", actor=ACTOR, now=NOW)
    assert customer.external_id is None
    assert customer.created_at == NOW
    assert version_of(customer) == 0
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.customer, entry.at) == ("customer.created", customer, NOW)


def test_an_external_id_belongs_to_one() -> None:
    a_customer(external_id="acme")
    with pytest.raises(customers.ExternalIdTaken, match="acme"):
        a_customer(external_id="acme")
    assert Customer.objects.count() == CustomerVersion.objects.count() == 1
    other = a_customer(external_id=None)
    with pytest.raises(customers.ExternalIdTaken):
        customers.change_customer(other.id, changes={"external_id": "acme"}, actor=ACTOR, now=NOW)
    assert AuditEntry.objects.filter(action="customer.changed").count() == 0


@pytest.mark.parametrize("external_id", ["cus_1", "fb_key_x"])
def test_an_external_id_is_not_mistaken_for_ours(external_id: str) -> None:
    with pytest.raises(customers.ExternalIdReserved):
        a_customer(external_id=external_id)
    assert not Customer.objects.exists()


def test_other_refusals_of_the_database_are_faults() -> None:
    with pytest.raises(IntegrityError, match="currency"):
        a_customer(currency="USD")


def test_changes_are_audited_once_and_raise_the_version() -> None:
    customer = a_customer(name="Acme", email="old@acme.example")
    changes: customers.CustomerChanges = {"name": "Acme", "email": "new@acme.example"}
    for _ in range(2):
        changed = customers.change_customer(customer.id, changes=changes, actor=ACTOR, now=LATER)
        assert changed.email == "new@acme.example"
    entry = AuditEntry.objects.get(action="customer.changed")
    assert entry.changes == {"email": ["old@acme.example", "new@acme.example"]}
    assert version_of(customer) == 2


def test_suspending_and_resuming_twice_is_once() -> None:
    customer = a_customer()
    for moment in (NOW, LATER):
        suspended = customers.suspend_customer(customer.id, reason="abuse", actor=ACTOR, now=moment)
        assert suspended.suspended_at == NOW
    assert AuditEntry.objects.get(action="customer.suspended").changes == {"reason": "abuse"}
    for _ in range(2):
        resumed = customers.resume_customer(customer.id, actor=ACTOR, now=LATER)
        assert resumed.suspended_at is None
    assert AuditEntry.objects.get(action="customer.resumed").changes == {}
    assert version_of(customer) == 4


def test_nobody_can_be_changed() -> None:
    operations: list[tuple[Any, dict[str, Any]]] = [
        (customers.change_customer, {"changes": {"name": "x"}}),
        (customers.suspend_customer, {}),
        (customers.resume_customer, {}),
    ]
    for operation, given in operations:
        with pytest.raises(versions.CustomerUnknown):
            operation(1, **given, actor=ACTOR, now=NOW)
    assert not AuditEntry.objects.exists()


def test_versions_count_up() -> None:
    customer = a_customer()
    with transaction.atomic():
        assert [versions.bump(customer.id) for _ in range(3)] == [1, 2, 3]
        first = versions.bump_catalogue()
        assert versions.bump_catalogue() == first + 1
