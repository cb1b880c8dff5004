"""The quarantine over HTTP, in the admin and by command: seen, tried again, given up."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from pytest_django import Settings

from accounts.models import AuditEntry, Customer, Member
from metering.models import QuarantinedEvent, UsageEvent
from metering.operations.redriving import discard
from tests.factories.metering import NOW, make_customer, make_entitlement, make_meter
from tests.factories.quarantine import quarantined
from tests.metering.api.calls import get, post

pytestmark = pytest.mark.django_db


@pytest.fixture
def later() -> Customer:
    """A customer that was made after its usage was refused."""
    return make_customer(external_id="later")


def mend(later: Customer) -> None:
    """Make the meter that was missing."""
    make_entitlement(later, make_meter(event_type="new.thing"))


def test_they_are_listed_as_they_were_reported(operator: Client, later: Customer) -> None:
    row = quarantined(1, gateway_id=3)
    quarantined(2, subject="", customer=later, code="quantity_invalid", type="other", source="x")
    first, second = reversed(get(operator, "/quarantine").json()["data"])

    assert first == {
        "id": row.public_id,
        "state": "waiting",
        "customer": None,
        "subject": "later",
        "source": "app",
        "external_id": "event-1",
        "type": "new.thing",
        "occurred_at": None,
        "shape": "",
        "properties": {"tokens": 5, "model": "m-1"},
        "point": "meter",
        "code": "meter_unknown",
        "detail": "No meter counts it.",
        "mend": "Create a meter for events of this type, then try the event again.",
        "event": None,
        "gateway": first["gateway"],
        "first_at": "2026-11-15T10:30:00Z",
        "last_at": "2026-11-15T10:30:00Z",
        "closed_at": None,
        "closed_by": "",
        "reason": "",
        "times": 1,
    }
    assert first["gateway"].startswith("gw_")
    assert (second["customer"], second["subject"]) == (later.public_id, "")
    for query in ({"code": "meter_unknown"}, {"type": "new.thing"}, {"source": "app"}):
        assert get(operator, "/quarantine", **query).json()["data"] == [first]
    assert get(operator, "/quarantine", colour="red").json()["code"] == "parameter_unknown"


def test_they_are_counted_once_the_meter_is_made(operator: Client, later: Customer) -> None:
    rows = [quarantined(number) for number in (1, 2, 3)]
    nothing: dict[str, Any] = {"counted": 0, "duplicates": 0, "refused": 0, "waiting": 3}
    assert post(operator, "/quarantine/redrive", {}).json() == nothing | {"refused": 3}
    mend(later)
    chosen = {"events": [rows[1].public_id]}
    answer = post(operator, "/quarantine/redrive", chosen).json()
    assert answer == nothing | {"counted": 1, "waiting": 2}
    answer = post(operator, "/quarantine/redrive", {"limit": 1}).json()
    assert answer == nothing | {"counted": 1, "waiting": 1}
    assert UsageEvent.objects.count() == 2
    went = get(operator, "/quarantine", state="counted").json()["data"]
    assert [each["external_id"] for each in went] == ["event-2", "event-1"]
    assert went[0]["event"] in {
        each["id"] for each in get(operator, "/events", customer="later").json()["data"]
    }
    assert (went[0]["customer"], went[0]["properties"]) == (later.public_id, {})
    assert get(operator, "/events", customer="later").json()["data"][0]["usage"]


def test_they_are_given_up(operator: Client) -> None:
    rows = [quarantined(1), quarantined(2)]
    chosen = {"events": [row.public_id for row in rows]}
    discard(event_ids=[rows[0].id], actor="mem_1", now=NOW)
    why = {"reason": "Counted by hand."}
    assert post(operator, "/quarantine/discard", chosen | why).json() == {"discarded": 1}
    assert get(operator, "/quarantine").json()["data"] == []
    listed = get(operator, "/quarantine", state="discarded").json()["data"]
    assert [each["reason"] for each in listed] == ["Counted by hand.", ""]
    assert [each["closed_by"][:4] for each in listed] == ["opk_", "mem_"]
    assert [each["properties"] for each in listed] == [{}, {}]
    long = {"events": [rows[0].public_id], "reason": "x" * 501}
    assert post(operator, "/quarantine/discard", long).status_code == 422


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("redrive", {"limit": 0}, "limit"),
        ("redrive", {"limit": 1_001}, "limit"),
        ("redrive", {"events": ["evt_1"]}, "events[0]"),
        ("redrive", {"customer": "later"}, "customer"),
        ("discard", {}, "events"),
        ("discard", {"events": []}, "events"),
        ("discard", {"events": ["qua_x"]}, "events[0]"),
    ],
)
def test_what_is_asked_wrongly_moves_nothing(
    operator: Client, path: str, body: dict[str, Any], param: str
) -> None:
    quarantined()
    answer = post(operator, f"/quarantine/{path}", body)
    assert (answer.status_code, answer.json()["param"]) == (422, param)
    assert QuarantinedEvent.objects.get().last_at < NOW


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(
        Member.objects.create_superuser("staff@example.com", "correct horse battery"),
        backend="django.contrib.auth.backends.ModelBackend",
    )
    return client


PAGE = "/admin/metering/quarantinedevent/"


def act(client: Client, action: str, *rows: QuarantinedEvent) -> str:
    chosen = {"action": action, "_selected_action": [row.pk for row in rows]}
    answer = client.post(PAGE, chosen, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_staff_see_them_try_them_and_give_them_up(
    staff: Client, later: Customer, settings: Settings
) -> None:
    settings.QUARANTINE_EVENTS = 7
    rows = [quarantined(1), quarantined(2)]
    listed = staff.get(PAGE).content.decode()
    assert "No meter counts it." in listed
    assert "2 of 7 events wait, of 600 of 100,000,000 bytes" in listed
    one = staff.get(f"{PAGE}{rows[0].pk}/change/").content.decode()
    assert "Create a meter for events of this type" in one
    assert staff.get(f"{PAGE}add/").status_code == 403
    assert staff.post(f"{PAGE}{rows[0].pk}/delete/").status_code == 403
    assert "0 counted, 0 counted before, 1 refused." in act(staff, "redrive", rows[0])
    mend(later)
    assert "1 counted, 0 counted before, 0 refused." in act(staff, "redrive", rows[0])
    assert "Nothing: it is counted." in staff.get(f"{PAGE}{rows[0].pk}/change/").content.decode()
    assert "1 given up." in act(staff, "discard", rows[1])
    rows[1].refresh_from_db()
    assert (rows[1].state, rows[1].closed_by[:4]) == ("discarded", "mem_")
    assert "Nothing: it is discarded." in staff.get(f"{PAGE}{rows[1].pk}/change/").content.decode()
    assert "customer reads it" in staff.get(PAGE).content.decode()
    assert UsageEvent.objects.count() == 1
    assert all(each.actor.startswith("mem_") for each in AuditEntry.objects.all())


def test_some_reasons_are_for_a_person_to_decide_on(operator: Client, later: Customer) -> None:
    mend(later)
    row = quarantined(subject="", code="key_unknown")
    nothing: dict[str, Any] = {"counted": 0, "duplicates": 0, "refused": 0, "waiting": 1}
    assert post(operator, "/quarantine/redrive", {}).json() == nothing
    out = io.StringIO()
    call_command("redrive", stdout=out)
    assert out.getvalue().strip().endswith("1 in quarantine, 1 of them for a person to decide on")
    given = {"events": [row.public_id], "customer": "later"}
    answer = post(operator, "/quarantine/redrive", given).json()
    assert answer == nothing | {"counted": 1, "waiting": 0}
    row.refresh_from_db()
    assert row.customer_id == later.id


def test_the_command_tries_all_of_them(later: Customer) -> None:
    for number in range(1, 4):
        quarantined(number)
    quarantined(4, subject="nobody")
    mend(later)
    for expected in (
        "3 counted, 0 duplicates, 1 refused again, 1 in quarantine",
        "0 counted, 0 duplicates, 1 refused again, 1 in quarantine",
    ):
        out = io.StringIO()
        call_command("redrive", actor="mem_7", stdout=out)
        assert out.getvalue().strip() == expected
    assert AuditEntry.objects.get().actor == "mem_7"
