"""Migration 0005: whoever was erased before is known to be, from the audit."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module

import pytest
from django.db import connection

from accounts.models import AuditEntry, Customer, CustomerVersion
from tests.factories.metering import NOW, make_customer


@pytest.mark.django_db
def test_the_first_erasure_counts_and_others_are_left() -> None:
    erased, other = make_customer(), make_customer()
    for customer, action, days in (
        (erased, "customer.erased", 2),
        (erased, "customer.erased", 1),
        (other, "customer.suspended", 1),
    ):
        AuditEntry.objects.create(
            at=NOW - timedelta(days=days),
            actor="opk_1",
            action=action,
            subject=customer.public_id,
            customer=customer,
        )
    before = dict(CustomerVersion.objects.values_list("customer_id", "version"))
    with connection.cursor() as cursor:
        cursor.execute(import_module("accounts.migrations.0005_erased").FORWARD)
    found = dict(Customer.objects.values_list("id", "erased_at"))
    assert found == {erased.id: NOW - timedelta(days=2), other.id: None}
    after = dict(CustomerVersion.objects.values_list("customer_id", "version"))
    assert after == {erased.id: before[erased.id] + 1, other.id: before[other.id]}
