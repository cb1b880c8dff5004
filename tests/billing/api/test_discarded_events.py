"""The fate of what was discarded from the quarantine, and of what was never kept."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from pytest_django import Settings

from accounts.domain import ids
from accounts.models import Customer
from metering.domain.counting import event_key
from metering.models import QuarantinedEvent
from metering.operations.redriving import discard
from tests.billing.pages.conftest import signed_in
from tests.billing.pages.test_events import a_clerk, text
from tests.factories.accounts import a_customer, a_member
from tests.factories.metering import make_entitlement, make_meter, report
from tests.factories.quarantine import quarantined
from tests.metering.api.calls import as_customer, get
from tests.metering.api.conftest import operator

__all__ = ["operator"]
pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 15, 13, tzinfo=UTC)


@pytest.fixture
def later() -> Customer:
    return a_customer(name="Later", external_id="later")


@pytest.fixture
def staff() -> Client:
    clerk = a_clerk()
    see = ["view_usageevent", "view_quarantinedevent"]
    clerk.user_permissions.add(*Permission.objects.filter(codename__in=see))
    return signed_in(clerk)


def discarded(number: int = 1, *, reason: str = "It was a test.", **fields: object) -> str:
    row: QuarantinedEvent = quarantined(number, **fields)
    assert discard(event_ids=[row.id], reason=reason, actor="mem_7", now=NOW) == 1
    return row.public_id


def evt(customer: Customer, number: int = 1) -> str:
    key = event_key("app", f"event-{number}")
    return ids.encode_owned("evt", customer_id=customer.id, key=key)


def test_it_says_that_it_was_kept_and_who_discarded_it(operator: Client, later: Customer) -> None:
    number = discarded()
    body = get(operator, f"/events/{number}").json()
    assert body == get(operator, f"/events/{evt(later)}").json()
    assert body["fate"]["stopped"] == (
        "It was refused at its meter: No meter counts it. It was kept, and discarded "
        "2026-11-15 13:00 UTC by mem_7: It was a test."
    )
    quarantine = body["fate"]["quarantine"]
    told = {name: quarantine[name] for name in ("state", "closed_by", "closed_at", "reason")}
    assert told == {
        "state": "discarded",
        "closed_by": "mem_7",
        "closed_at": "2026-11-15T13:00:00Z",
        "reason": "It was a test.",
    }
    assert (quarantine["mend"], quarantine["event"], body["properties"]) == (None, None, {})
    silent = get(operator, f"/events/{discarded(2, reason='')}").json()["fate"]["stopped"]
    assert silent.endswith("by mem_7; why was not said.")
    nobodys = get(operator, f"/events/{discarded(3, subject='stranger')}").json()
    assert (nobodys["customer"], nobodys["fate"]["quarantine"]["state"]) == (None, "discarded")


def test_its_customer_is_told_so_but_not_which_operator_it_was(later: Customer) -> None:
    number, client = discarded(), as_customer(later)
    body = get(client, f"/events/{number}").json()
    assert "mem_7" not in str(body)
    assert body["fate"]["stopped"] == (
        "It was refused at its meter: Events of its type are not counted here. It was kept, and "
        "discarded 2026-11-15 13:00 UTC by the operator: It was a test."
    )
    (listed,) = get(client, "/me/quarantine").json()["data"]
    assert (listed["state"], listed["reason"], listed["event"]) == (
        "discarded",
        "It was a test.",
        None,
    )
    foreign = discarded(2, subject="", customer=a_customer())
    nobodys = discarded(3, subject="stranger")
    for hidden in (foreign, nobodys):
        assert get(client, f"/events/{hidden}").status_code == 404
    browser = signed_in(a_member(later))
    page = text(browser, f"/portal/events/{number}")
    for words in ("Discarded", "by the operator: It was a test.", "15 November 2026, 13:00:00"):
        assert words in page, (words, page)
    assert "mem_7" not in page
    assert "What to do" not in page
    assert "Discarded" in text(browser, "/portal/events/refused")
    text(browser, f"/portal/events/{foreign}", 404)


def test_operators_pages_say_it(later: Customer, staff: Client) -> None:
    page = text(staff, f"/admin/usage-events/{discarded()}/")
    for words in ("Discarded.", "UTC by mem_7: It was a test.", "Later"):
        assert words in page, (words, page)
    assert "Try it again" not in page
    assert "why was not said" in text(staff, f"/admin/usage-events/{discarded(2, reason='')}/")
    nobodys = text(staff, f"/admin/usage-events/{discarded(3, subject='stranger')}/")
    assert "Nobody knew whose it was." in nobodys
    assert "stranger" not in nobodys


def test_one_that_was_counted_later_says_that_a_report_was_discarded(
    later: Customer, operator: Client
) -> None:
    meter = make_meter(event_type="new.thing")
    make_entitlement(later, meter)
    event = report(later, meter, 5, at=NOW)
    discarded(event_id=event.id)
    public = ids.encode_owned("evt", customer_id=later.id, key=event.id)
    fate = get(operator, f"/events/{public}").json()["fate"]
    assert fate["quarantine"]["state"] == "discarded"
    page = text(signed_in(a_member(later)), f"/portal/events/{public}")
    assert "at its meter, and that report discarded 15 November 2026" in page


def test_what_was_not_kept_says_how_to_have_it_kept(
    operator: Client, staff: Client, later: Customer, settings: Settings
) -> None:
    unowned = ids.encode_owned("evt", customer_id=7, key=event_key("app", "event-1"))
    gone = (evt(later), unowned, ids.encode("qua", 7))
    off = "kept only when the quarantine is on, and it is off: set FAREBOX_QUARANTINE_EVENTS to"
    on = "kept only when the quarantine is on, as it is now (FAREBOX_QUARANTINE_EVENTS is 50)"
    for events, words in ((0, off), (50, on)):
        settings.QUARANTINE_EVENTS = events
        for address in gone:
            answer = get(operator, f"/events/{address}")
            assert answer.status_code == 404
            assert words in answer.json()["detail"]
            assert words in text(staff, f"/admin/usage-events/{address}/", 404)
        assert words in text(staff, "/admin/usage-events/?customer=later&id=event-9")
    assert get(operator, "/events/qua_x").status_code == 404
    answer = get(as_customer(later), f"/events/{evt(later)}")
    assert answer.status_code == 404
    assert answer.json()["detail"].endswith("is there only if it was kept.")
    assert "only if it was kept" in text(signed_in(a_member(later)), "/portal/events?id=event-9")


def test_it_is_found_by_the_id_that_it_was_reported_with(later: Customer, staff: Client) -> None:
    discarded()
    told = "Refused, and not counted: event-1 (discarded)"
    assert told in text(signed_in(a_member(later)), "/portal/events?id=event-1")
    assert told in text(staff, "/admin/usage-events/?customer=later&id=event-1")
