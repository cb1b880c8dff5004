"""A customer's list of its refused events: with its key, and in the portal."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from accounts.models import Customer
from metering.domain.counting import TimeBounds
from metering.domain.refusals import REFUSALS, TOLD
from metering.models import QuarantinedEvent
from metering.operations.redriving import Redriven, redrive
from metering.queries.quarantine import event_bounds
from tests.billing.pages.conftest import signed_in
from tests.billing.pages.test_events import text
from tests.factories.accounts import a_customer, a_member
from tests.factories.metering import make_entitlement, make_meter
from tests.factories.quarantine import quarantined
from tests.metering.api.calls import as_customer, get

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 15, 13, tzinfo=UTC)
LIST = "/portal/events/refused"


@pytest.fixture
def later() -> Customer:
    return a_customer(name="Later", external_id="later")


@pytest.fixture
def browser(later: Customer) -> Client:
    return signed_in(a_member(later))


def count_one(later: Customer) -> None:
    make_entitlement(later, make_meter(event_type="new.thing"))
    bounds: TimeBounds = event_bounds()
    done = redrive(limit=10, bounds=bounds, actor="mem_1", now=NOW)
    assert done == Redriven(counted=1)


def own(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [each["id"] for each in answer.json()["data"]]


def test_a_key_lists_its_customers_and_no_others(later: Customer) -> None:
    row = quarantined(1, occurred_at=NOW, detail="relation metering_x", times=2)
    keyed = quarantined(2, subject="", customer=later)
    byid = quarantined(3, subject=later.public_id)
    other = a_customer(external_id="other")
    foreign = quarantined(4, subject="", customer=other)
    quarantined(5, subject="other")
    quarantined(6, subject="later", customer=other)  # named so, and known to be another's
    quarantined(7, subject="")  # nobody's
    quarantined(8, subject="stranger")
    answer = get(as_customer(later), "/me/quarantine")
    assert own(answer) == [byid.public_id, keyed.public_id, row.public_id]
    assert answer.json()["data"][2] == {
        "id": row.public_id,
        "state": "waiting",
        "external_id": "event-1",
        "type": "new.thing",
        "occurred_at": "2026-11-15T13:00:00Z",
        "point": "meter",
        "code": "meter_unknown",
        "detail": "Events of its type are not counted here.",
        "event": None,
        "first_at": "2026-11-15T10:30:00Z",
        "last_at": "2026-11-15T10:30:00Z",
        "closed_at": None,
        "reason": "",
        "times": 2,
    }
    assert foreign.public_id in own(get(as_customer(other), "/me/quarantine"))
    nameless = a_customer(external_id=None)
    assert own(get(as_customer(nameless), "/me/quarantine")) == []


def test_it_comes_in_pages_and_by_state(later: Customer) -> None:
    counted = quarantined(1)
    count_one(later)
    waits = quarantined(2, type="other")
    client = as_customer(later)
    first = get(client, "/me/quarantine", limit="1")
    assert (own(first), first.json()["has_more"]) == ([waits.public_id], True)
    second = get(client, "/me/quarantine", limit="1", cursor=first.json()["next"])
    assert (own(second), second.json()["has_more"]) == ([counted.public_id], False)
    assert second.json()["data"][0]["event"].startswith("evt_")
    assert own(get(client, "/me/quarantine", state="counted")) == [counted.public_id]
    assert get(client, "/me/quarantine", state="lost").status_code == 422


def test_the_portal_lists_them_with_what_became_of_each(later: Customer, browser: Client) -> None:
    assert "None of your events is kept as refused." in text(browser, LIST)
    counted = quarantined(1, code="quantity_invalid", detail="secret", times=3)
    count_one(later)
    waits = quarantined(
        2, type="", external_id="", shape="lago", subject="", customer=later, event_id=None
    )
    dated = quarantined(3, type="old <b>", occurred_at=NOW)
    quarantined(4, customer=a_customer(), external_id="foreign")
    quarantined(5, subject="", external_id="nobodys")
    page = browser.get(LIST).content.decode()
    rows = re.findall(r"<tr>\s*<th scope=\"row\">.*?</tr>", page, re.DOTALL)
    links = [re.search(r'href="/portal/events/(qua_\w+)"', row) for row in rows]
    assert [link and link[1] for link in links] == [
        each.public_id for each in (dated, waits, counted)
    ]
    assert "15 Nov 2026, 13:00:00" in rows[0]
    assert "old &lt;b&gt;" in rows[0]
    for words in (waits.public_id, "not known", "when it was reported", "Waiting"):
        assert words in rows[1], words
    for words in ("Its quantity is missing", "15 Nov 2026, 10:30:00, 3 times", "Tried again"):
        assert words in rows[2], words
    for hidden in ("secret", "foreign", "nobodys", "No meter counts it."):
        assert hidden not in page
    assert f'href="{LIST}"' in browser.get("/portal/events").content.decode()
    assert f'href="{LIST}"' in browser.get(f"/portal/events/{waits.public_id}").content.decode()
    assert 'aria-current="page">Usage events' in page


def test_the_portals_list_has_pages(later: Customer, browser: Client) -> None:
    rows = [quarantined(number) for number in range(1, 53)]
    theirs = quarantined(60, customer=a_customer())
    page = browser.get(LIST).content.decode()
    assert page.count('<th scope="row">') == 50
    older = f"?before={rows[2].public_id}"
    assert f'href="{older}"' in page
    page = browser.get(f"{LIST}{older}").content.decode()
    assert page.count('<th scope="row">') == 2
    assert "Older refused events" not in page
    assert "no older ones" in text(browser, f"{LIST}?before={rows[0].public_id}")
    for odd in ("x", "qua_", "%00", theirs.public_id):
        page = browser.get(f"{LIST}?before={odd}").content.decode()
        assert page.count('<th scope="row">') == 50


def test_nobody_else_sees_the_page(later: Customer) -> None:
    row = quarantined(1)
    assert row.public_id not in signed_in(a_member(a_customer())).get(LIST).content.decode()
    assert Client().get(LIST).status_code == 302
    staff = signed_in(a_member(None, is_staff=True)).get(LIST)
    assert row.public_id not in staff.content.decode()


def test_a_customer_is_told_every_reason_in_words(later: Customer, browser: Client) -> None:
    assert set(TOLD) == set(REFUSALS)
    quarantined(1, code="strange")
    assert "It could not be counted." in text(browser, LIST)
    assert QuarantinedEvent.objects.count() == 1
