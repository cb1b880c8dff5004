"""metering.admin: looked at, archived, never edited."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts.models import AuditEntry, Member
from metering.models import Fault, Meter
from metering.operations.entitling import OfferTerms, publish_offers
from tests.factories.metering import NOW, make_meter

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(
        Member.objects.create_superuser("staff@example.com", "correct horse battery"),
        backend="django.contrib.auth.backends.ModelBackend",
    )
    return client


def test_lists_answer_and_nothing_can_be_edited(staff: Client) -> None:
    meter = make_meter(key="api.calls")
    publish_offers([OfferTerms("pro", "Pro", 1, {})])
    Fault.objects.create(invariant="I1", subject="cus_1", detail="used 7", found_at=NOW)
    for model, shown in (("meter", "api.calls"), ("offer", "Pro"), ("fault", "used 7")):
        answer = staff.get(f"/admin/metering/{model}/")
        assert answer.status_code == 200
        assert shown in answer.content.decode()
        assert staff.get(f"/admin/metering/{model}/add/").status_code == 403
    assert staff.get(f"/admin/metering/meter/{meter.pk}/change/").status_code == 200
    assert staff.post(f"/admin/metering/meter/{meter.pk}/delete/").status_code == 403
    changed = staff.post(f"/admin/metering/meter/{meter.pk}/change/", {"key": "other"})
    assert changed.status_code == 403
    assert Meter.objects.get().key == "api.calls"


def test_meters_are_archived_by_action_and_audited(staff: Client) -> None:
    meter = make_meter()
    staff.post("/admin/metering/meter/", {"action": "archive", "_selected_action": [meter.pk]})
    meter.refresh_from_db()
    assert meter.archived_at is not None
    assert AuditEntry.objects.get(action="meter.archived").actor.startswith("mem_")
