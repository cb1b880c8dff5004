"""The fate of events that were refused and kept: over HTTP, and on the pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from accounts.domain import ids
from accounts.models import Customer
from metering.domain.counting import TimeBounds, event_key
from metering.models import UsageEvent
from metering.operations.redriving import Redriven, redrive
from tests.billing.pages.conftest import signed_in
from tests.billing.pages.test_events import a_clerk, text
from tests.factories.accounts import a_customer, a_member
from tests.factories.metering import make_entitlement, make_meter
from tests.factories.quarantine import quarantined
from tests.metering.api.calls import as_customer, get
from tests.metering.api.conftest import operator

__all__ = ["operator"]
pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 15, 13, tzinfo=UTC)
BOUNDS = TimeBounds(max_age=timedelta(days=90), max_ahead=timedelta(minutes=5))
KEY = event_key("app", "event-1")


@pytest.fixture
def later() -> Customer:
    return a_customer(name="Later", external_id="later")


def again(*, now: datetime = NOW) -> Redriven:
    return redrive(limit=10, bounds=BOUNDS, actor="mem_1", now=now)


def evt(customer: Customer, number: int = 1) -> str:
    key = event_key("app", f"event-{number}")
    return ids.encode_owned("evt", customer_id=customer.id, key=key)


def test_an_event_in_quarantine_has_a_fate(operator: Client, later: Customer) -> None:
    row = quarantined(gateway_id=3)
    told = get(operator, f"/events/{row.public_id}")
    assert told.status_code == 200, told.content
    body = told.json()
    assert body == get(operator, f"/events/{evt(later)}").json()
    assert (body["id"], body["customer"]) == (evt(later), later.public_id)
    assert (body["external_id"], body["occurred_at"]) == ("event-1", None)
    assert (body["usage"], body["properties"]) == ([], row.properties)
    assert body["fate"] == {
        "meters": [],
        "former_meters": [],
        "hold": None,
        "corrections": [],
        "backfill": None,
        "quarantine": {
            "id": row.public_id,
            "state": "waiting",
            "point": "meter",
            "code": "meter_unknown",
            "detail": "No meter counts it.",
            "mend": "Create a meter for events of this type, then try the event again.",
            "event": None,
            "first_at": "2026-11-15T10:30:00Z",
            "last_at": "2026-11-15T10:30:00Z",
            "closed_at": None,
            "closed_by": "",
            "reason": "",
            "times": 1,
        },
        "stopped": "It was refused at its meter: No meter counts it.",
    }


def test_it_points_to_where_it_went(operator: Client, later: Customer) -> None:
    row = quarantined()
    meter = make_meter(event_type="new.thing")
    make_entitlement(later, meter)
    assert again() == Redriven(counted=1)
    body = get(operator, f"/events/{row.public_id}").json()
    assert body["fate"]["stopped"] == (
        f"It was refused, tried again, and is counted as {evt(later)}."
    )
    went = body["fate"]["quarantine"]
    assert (went["state"], went["event"], went["mend"]) == ("counted", evt(later), None)
    assert went["closed_at"] == "2026-11-15T13:00:00Z"
    counted = get(operator, f"/events/{evt(later)}").json()
    assert counted["usage"][0]["quantity"] == 5
    assert counted["fate"]["quarantine"] == went
    twin = quarantined()  # the same, refused again before it was counted
    waits = get(operator, f"/events/{evt(later)}").json()["fate"]["quarantine"]
    assert (waits["id"], waits["state"]) == (twin.public_id, "waiting")
    assert again(now=NOW + timedelta(minutes=1)) == Redriven(duplicates=1)
    body = get(operator, f"/events/{twin.public_id}").json()
    assert body["fate"]["stopped"] == (
        f"It was refused, and came again: it is counted as {evt(later)}."
    )


def test_a_customer_sees_its_own_and_in_its_own_words(later: Customer) -> None:
    own = as_customer(later)
    row = quarantined(code="internal_error", detail="relation metering_x")
    keyed = quarantined(2, subject="", customer=later, code="key_revoked")
    shaped = quarantined(3, shape="lago", customer=later, code="strange", event_id=None)
    foreign = quarantined(4, subject="", customer=a_customer(external_id="other"))
    nobodys = quarantined(5, subject="")
    body = get(own, f"/events/{row.public_id}").json()
    quarantine = body["fate"]["quarantine"]
    assert "relation" not in str(body)
    assert quarantine["detail"] == "Something was wrong on our side."
    assert quarantine["mend"].startswith("Ask whoever")
    assert body["properties"] == row.properties
    assert get(own, f"/events/{evt(later, 2)}").json()["fate"]["quarantine"]["id"] == (
        keyed.public_id
    )
    told = get(own, f"/events/{shaped.public_id}").json()
    assert (told["id"], told["properties"]) == (shaped.public_id, {})
    assert told["fate"]["stopped"] == "It was refused at its shape: It could not be counted."
    for hidden in (foreign.public_id, nobodys.public_id, evt(a_customer()), "qua_x"):
        assert get(own, f"/events/{hidden}").status_code == 404


def test_the_customers_pages_tell_it(later: Customer) -> None:
    browser = signed_in(a_member(later))
    row = quarantined(times=3, last_at=NOW, occurred_at=NOW)
    foreign = quarantined(2, subject="", customer=a_customer())
    assert "Nothing was used yet" in text(browser, "/portal/events")
    for asked in ("event-1", evt(later)):
        page = text(browser, f"/portal/events?id={asked}")
        assert "Refused, and not counted: event-1" in page
        assert "You have no event" not in page
    for address in (row.public_id, evt(later)):
        page = text(browser, f"/portal/events/{address}")
        for words in (
            "Events of its type are not counted here.",
            "3 times",
            "Ask whoever",
            "tokens 5",
        ):
            assert words in page, (words, page)
        assert "No meter counts it." not in page
    text(browser, f"/portal/events/{foreign.public_id}", 404)
    assert "You have no event" in text(browser, "/portal/events?id=event-2")


def test_operators_pages_tell_it(later: Customer) -> None:
    clerk = a_clerk()
    see = ["view_usageevent", "view_quarantinedevent"]
    clerk.user_permissions.add(*Permission.objects.filter(codename="view_usageevent"))
    row = quarantined(gateway_id=3)
    path = f"/admin/usage-events/{row.public_id}/"
    assert signed_in(clerk).get(path).status_code == 403
    clerk.user_permissions.add(*Permission.objects.filter(codename__in=see))
    staff = signed_in(clerk)
    found = staff.get(f"/admin/usage-events/?id={row.public_id}")
    assert found["Location"] == path
    page = text(staff, path)
    for words in ("its meter ( meter_unknown )", "No meter counts it.", "from gw_", "Later"):
        assert words in page, (words, page)
    listed = text(staff, "/admin/usage-events/?customer=later&id=event-1")
    assert "Refused, and not counted: event-1" in listed
    assert "There is no such event" not in listed
    nobody = quarantined(2, subject="", external_id="", shape="lago", event_id=None)
    assert "in the shape lago" in text(staff, f"/admin/usage-events/{nobody.public_id}/")
    named = quarantined(3, subject="stranger")
    assert "stranger , who is not known" in text(staff, f"/admin/usage-events/{named.public_id}/")


def test_pages_lead_from_the_one_to_the_other(later: Customer) -> None:
    row = quarantined()
    make_entitlement(later, make_meter(event_type="new.thing"))
    again()
    browser = signed_in(a_member(later))
    event: Any = UsageEvent.objects.get()
    assert evt(later) == ids.encode_owned("evt", customer_id=later.id, key=event.id)
    page = text(browser, f"/portal/events/{evt(later)}")
    assert "refused 15 November 2026, 10:30:00 UTC at its meter, counted 15 November" in page
    went = browser.get(f"/portal/events/{row.public_id}").content.decode()
    assert f'href="/portal/events/{evt(later)}"' in went
    assert "What to do" not in went
    quarantined()
    page = browser.get(f"/portal/events/{evt(later)}").content.decode()
    assert "a report of the same id" in page
