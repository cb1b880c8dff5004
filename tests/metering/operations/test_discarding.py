"""metering.operations.redriving.discard: what is given up stays for its fate, without content."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from accounts.models import AuditEntry
from metering.domain.counting import TimeBounds
from metering.models import QuarantinedEvent
from metering.operations import redriving
from metering.operations.redriving import Redriven, discard, forget_quarantined, redrive
from tests.factories.metering import NOW, make_customer
from tests.factories.quarantine import quarantined

pytestmark = pytest.mark.django_db
GIVEN: dict[str, Any] = {"actor": "mem_1", "now": NOW}
BOUNDS = TimeBounds(max_age=timedelta(days=90), max_ahead=timedelta(minutes=5))


def test_who_when_and_why_stays_and_the_content_goes() -> None:
    customer = make_customer(external_id="later")
    rows = [quarantined(1, options={"type": "x"}), quarantined(2)]
    asked = [rows[0].id, 10**9]
    assert discard(event_ids=asked, reason="A test.", **GIVEN) == 1
    assert discard(event_ids=asked, reason="Another.", **GIVEN) == 0
    row = QuarantinedEvent.objects.get(id=rows[0].id)
    assert (row.state, row.closed_by, row.closed_at, row.reason) == (
        "discarded",
        "mem_1",
        NOW,
        "A test.",
    )
    assert (row.properties, row.options, row.size, row.digest) == ({}, {}, 0, None)
    assert (row.code, row.detail) == ("meter_unknown", "No meter counts it.")
    assert (row.customer, row.subject, row.external_id) == (customer, "later", "event-1")
    assert AuditEntry.objects.get().changes == {"events": 1, "reason": "A test."}
    rows[1].refresh_from_db()
    assert rows[1].state == "waiting"


def test_of_nobodys_nothing_that_names_somebody_stays() -> None:
    quarantined(1, subject="ada@example.com", detail="There is no ada@example.com.")
    quarantined(2, subject="", detail="Nobody has fb_key_x.", code="strange")
    known = quarantined(3, subject="", customer=make_customer(), detail="Theirs.")
    rows = QuarantinedEvent.objects.order_by("id")
    assert discard(event_ids=[row.id for row in rows], **GIVEN) == 3
    assert [(row.subject, row.customer_id, row.detail) for row in rows.all()] == [
        ("", None, "Events of its type are not counted here."),
        ("", None, "It could not be counted."),
        ("", known.customer_id, "Theirs."),
    ]
    assert AuditEntry.objects.get().changes == {"events": 3}


def test_it_is_not_tried_again_and_the_same_event_may_come_again() -> None:
    row = quarantined(1)
    discard(event_ids=[row.id], **GIVEN)
    later = {"bounds": BOUNDS, "limit": 10, "actor": "mem_1", "now": NOW + timedelta(days=1)}
    assert redrive(event_ids=[row.id], **later) == Redriven()  # type: ignore[arg-type]
    assert redrive(**later) == Redriven()  # type: ignore[arg-type]
    twin = quarantined(1)
    assert QuarantinedEvent.objects.get(state="waiting") == twin


def test_they_go_with_time_and_the_oldest_where_there_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redriving, "WENT_MAX", 2)
    rows = [quarantined(number, first_at=NOW - timedelta(days=29)) for number in range(1, 4)]
    for number, row in enumerate(rows):
        discard(event_ids=[row.id], actor="mem_1", now=NOW + timedelta(minutes=number))
    left = QuarantinedEvent.objects.order_by("id")
    assert [row.id for row in left] == [row.id for row in rows[1:]]
    before = AuditEntry.objects.count()
    assert forget_quarantined(now=NOW, kept=timedelta(days=30)) == 0
    assert forget_quarantined(now=NOW + timedelta(days=2), kept=timedelta(days=30)) == 2
    assert AuditEntry.objects.count() == before  # that they were given up is there already
