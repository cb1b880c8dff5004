"""metering.operations.granting."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from accounts.models import AuditEntry, CustomerVersion
from accounts.operations.versions import CustomerUnknown
from metering.models import Grant
from metering.operations.granting import GrantInvalid, GrantUnknown, grant, public_id, void_grant
from metering.queries.balances import balances
from tests.factories.metering import NOW, make_customer, make_entitlement, make_meter, report

pytestmark = pytest.mark.django_db


def version_of(customer_id: int) -> int:
    return CustomerVersion.objects.get(customer_id=customer_id).version


def test_a_grant_counts_at_once() -> None:
    customer, meter = make_customer(), make_meter()
    make_entitlement(customer, meter, included=100)
    given = grant(
        customer.id, meter_id=meter.id, quantity=50, reason="goodwill", actor="opk_1", now=NOW
    )
    (balance,) = balances(customer.id, now=NOW)
    assert (balance.granted, balance.remaining) == (150, 150)
    assert version_of(customer.id) == 1
    assert AuditEntry.objects.get().subject == public_id(given)


def test_voiding_takes_back_what_is_left_and_only_once() -> None:
    customer, meter = make_customer(), make_meter()
    make_entitlement(customer, meter, included=100)
    given = grant(customer.id, meter_id=meter.id, quantity=50, actor="opk_1", now=NOW)
    report(customer, meter, 120)
    voided = void_grant(customer.id, grant_id=given.id, actor="opk_1", now=NOW)
    assert voided.voided_at == NOW
    later = NOW + timedelta(hours=1)
    assert void_grant(customer.id, grant_id=given.id, actor="opk_1", now=later).voided_at == NOW
    (balance,) = balances(customer.id, now=NOW)
    assert (balance.used, balance.remaining, balance.overage) == (120, 0, 0)
    assert AuditEntry.objects.get(action="grant.voided").changes == {"left": 30}


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"quantity": 0}, "quantity"),
        ({"quantity": 10**15 + 1}, "quantity"),
        ({"priority": 40_000}, "priority"),
        ({"expires_at": NOW}, "expires_at"),
        (
            {"effective_at": NOW + timedelta(days=2), "expires_at": NOW + timedelta(days=1)},
            "expires_at",
        ),
    ],
)
def test_what_cannot_be_granted_is_refused_by_name(changes: dict[str, Any], param: str) -> None:
    customer, meter = make_customer(), make_meter()
    given: dict[str, Any] = {"meter_id": meter.id, "quantity": 1, "actor": "opk_1", "now": NOW}
    with pytest.raises(GrantInvalid) as refused:
        grant(customer.id, **{**given, **changes})
    assert refused.value.param == param
    assert (Grant.objects.count(), version_of(customer.id)) == (0, 0)


def test_a_grant_of_another_customer_is_unknown() -> None:
    customer, other, meter = make_customer(), make_customer(), make_meter()
    given = grant(other.id, meter_id=meter.id, quantity=5, actor="opk_1", now=NOW)
    with pytest.raises(GrantUnknown):
        void_grant(customer.id, grant_id=given.id, actor="opk_1", now=NOW)
    assert version_of(customer.id) == 0
    assert Grant.objects.get().voided_at is None


def test_nobody_can_be_given_anything() -> None:
    with pytest.raises(CustomerUnknown):
        grant(1, meter_id=make_meter().id, quantity=5, actor="opk_1", now=NOW)
