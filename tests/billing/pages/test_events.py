"""Usage events on pages: the customer's own in the portal, everybody's for operators."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from accounts.domain import ids
from accounts.models import Customer, Member
from billing.models import Invoice
from billing.pages import events as pages
from metering.models import Backfill, Grant, Meter, UsageEvent
from metering.operations.applying import apply_backfills
from metering.operations.backfilling import Supplied, close, open_backfill, supply
from metering.operations.correcting import amend, void
from metering.operations.rolling_up import roll_up
from tests.billing.pages.conftest import signed_in
from tests.factories.accounts import a_customer, a_member
from tests.factories.billing import a_plan, a_subscription, bill, calls
from tests.factories.counted import happen
from tests.factories.metering import make_entitlement, make_meter, open_hold, report

pytestmark = pytest.mark.django_db


@pytest.fixture
def meter() -> Meter:
    return make_meter(key="chat.tokens", dimensions=["model"])


@pytest.fixture
def event(customer: Customer, meter: Meter, now: datetime) -> UsageEvent:
    """One of a month that was invoiced."""
    start = now - timedelta(days=40)
    subscription = a_subscription(
        a_plan(calls(meter)), customer=customer, start_at=start, now=start
    )
    made = report(
        customer, meter, 1_250, at=start + timedelta(days=1), properties={"model": "large"}
    )
    roll_up(limit=10)
    bill(subscription, now=now)
    return made


def a_clerk() -> Member:
    """One of the operator's people who may do nothing yet."""
    member = a_member(None, is_staff=True)
    member.is_superuser = False
    member.save()
    return member


@pytest.fixture
def staff() -> Client:
    member = a_clerk()
    member.user_permissions.add(
        *Permission.objects.filter(codename__in=["view_usageevent", "view_invoice"])
    )
    return signed_in(member)


def address(event: UsageEvent) -> str:
    return ids.encode_owned("evt", customer_id=event.customer_id, key=event.id)


def text(client: Client, path: str, status: int = 200) -> str:
    """What a page says, without its marks."""
    answer = client.get(path)
    assert answer.status_code == status, answer
    body = re.sub(r"<[^>]+>", " ", answer.content.decode().split("<body", maxsplit=1)[1])
    return " ".join(body.split())


def correct(event: UsageEvent, quantity: int, now: datetime) -> None:
    (number,) = event.usage
    amend(
        event.customer_id,
        event_id=event.id,
        quantities={int(number): quantity},
        reason="counted twice",
        actor="opk_someone",
        now=now,
    )


def test_an_event_is_followed_to_its_invoice(browser: Client, event: UsageEvent) -> None:
    invoice = Invoice.objects.get()
    page = text(browser, f"/portal/events/{address(event)}")
    for words in (
        f"Reported as {event.external_id} by test",
        "Counted",
        "model large",
        "Counts as 1,250 call",
        "of which 1,250 are used by now",
        f"Invoice {invoice.number}",
        "$2.50 in all",
    ):
        assert words in page, (words, page)
    assert "Stripe" not in page
    assert f'href="/portal/invoices/{invoice.public_id}"' in raw(browser, event)


def raw(client: Client, event: UsageEvent) -> str:
    return client.get(f"/portal/events/{address(event)}").content.decode()


def test_corrections_are_shown_with_their_reason(
    browser: Client, staff: Client, event: UsageEvent, now: datetime
) -> None:
    correct(event, 7, now)
    page = text(browser, f"/portal/events/{address(event)}")
    assert "Amended" in page
    assert "chat.tokens 7 counted twice" in page
    assert "chat.tokens 1,250" in page
    assert "the next one adjusts what that changes" in page
    assert "opk_someone" not in page  # which of the operators it was is not the customer's affair
    assert "opk_someone" in text(staff, f"/admin/usage-events/{address(event)}/")
    void(event.customer_id, event_id=event.id, reason="a test", actor="opk_1", now=now)
    page = text(browser, f"/portal/events/{address(event)}")
    assert "It was voided: a test" in page
    assert "Counts as nothing any more" in page


def test_where_it_is_still_on_its_way(browser: Client, customer: Customer, now: datetime) -> None:
    users = make_meter(key="seats", aggregation="unique", value_property="user")
    make_entitlement(customer, users, window="lifetime", included=0)
    Grant.objects.create(
        customer=customer, meter=users, quantity=5, effective_at=now, created_at=now
    )
    event = happen(customer, users, at=now, user="ada", admin=True)
    page = text(browser, f"/portal/events/{address(event)}")
    assert "It waits for the next roll-up." in page
    assert "Counts as “ada”" in page
    assert "admin true" in page
    assert "not yet rolled up" in page
    assert "In the lifetime" in page
    assert "1 of the grant" in page
    assert "Its period is not invoiced yet." in page


def test_holds_and_backfills_are_part_of_it(
    browser: Client, staff: Client, customer: Customer, meter: Meter, now: datetime
) -> None:
    hold = open_hold(customer, meter, 5, at=now)
    held = report(customer, meter, 5, at=now)
    UsageEvent.objects.filter(id=held.id).update(
        id=hold.id, from_hold=True, late=True, over_hold=True, gateway_id=7
    )
    held.id = hold.id
    page = text(staff, f"/admin/usage-events/{address(held)}/")
    assert "settled after its time; more was used than had been held" in page
    assert "from gw_" in page
    assert "there was no right to it at that time" in page
    by: dict[str, Any] = {"actor": "opk_1", "now": now}
    made = open_backfill(
        mode=Backfill.Mode.ADD,
        event_type=meter.event_type,
        customer_ids=[customer.id],
        start_at=now - timedelta(days=2),
        end_at=now,
        reason="an outage",
        **by,
    )
    at = now - timedelta(days=1)
    supply(made.id, events=[Supplied(customer.id, "archive", "old", at, {"tokens": 3})])
    close(made.id, **by)
    apply_backfills(now=now, limit=10, pieces=10)
    supplied = UsageEvent.objects.get(external_id="old")
    assert "supplied afterwards" in text(browser, f"/portal/events/{address(supplied)}")
    assert made.public_id in text(staff, f"/admin/usage-events/{address(supplied)}/")


def test_events_of_others_do_not_exist(browser: Client, meter: Meter, event: UsageEvent) -> None:
    foreign = report(a_customer(), meter, 1)
    borrowed = ids.encode_owned("evt", customer_id=event.customer_id, key=foreign.id)
    for path in (address(foreign), borrowed, "evt_x", "x"):
        text(browser, f"/portal/events/{path}", 404)
    assert "You have no event" in text(browser, f"/portal/events?id={address(foreign)}")
    assert foreign.external_id not in text(browser, "/portal/events")
    before = f"/portal/events?before={address(foreign)}"
    assert event.external_id in text(browser, before)  # as if nothing had been asked
    assert Client().get(f"/portal/events/{address(event)}").status_code == 302
    assert Client().get("/portal/events").status_code == 302


def test_events_are_listed_and_found(
    browser: Client,
    staff: Client,
    customer: Customer,
    meter: Meter,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "Nothing was used yet." in text(browser, "/portal/events")
    monkeypatch.setattr(pages, "SHOWN", 2)
    made = [report(customer, meter, n, at=now - timedelta(minutes=n // 2)) for n in range(5)]
    void(customer.id, event_id=made[0].id, reason="a test", actor="opk_1", now=now)
    for client, path in ((browser, "/portal/events?"), (staff, "/admin/usage-events/?customer=")):
        where, seen = path + ("" if client is browser else customer.public_id + "&"), []
        query = ""
        while True:
            body = client.get(where + query).content.decode()
            seen += re.findall(r">(event-\d+)<", body)
            older = re.search(r"before=(evt_\w+)", body)
            if older is None:
                break
            query = f"before={older[1]}"
        ordered = sorted(made, key=lambda each: (each.occurred_at, each.id), reverse=True)
        assert seen == [each.external_id for each in ordered]
        first = text(client, f"{where}id={made[0].external_id}")
        assert "nothing" in first
        assert "Voided" in first
        assert "event-0" not in text(client, f"{where}id=unheard-of")
    found = text(browser, f"/portal/events?id={address(made[3])}")
    assert made[3].external_id in found
    assert made[2].external_id not in found
    assert "chat.tokens 3" in found
    text(browser, "/portal/events?id=%00&before=%00")


def test_operators_find_an_event_by_its_id(staff: Client, event: UsageEvent) -> None:
    answer = staff.get(f"/admin/usage-events/?id={address(event)}")
    assert answer["Location"] == f"/admin/usage-events/{address(event)}/"
    page = text(staff, answer["Location"])
    assert "Acme" in page
    line = Invoice.objects.get().lines.get(kind="usage")
    assert line.public_id in page
    assert "There is no such customer" in text(staff, "/admin/usage-events/?customer=nobody")
    unheard_of = f"?customer={event.customer.public_id}&id=unheard-of"
    assert "There is no such event" in text(staff, f"/admin/usage-events/{unheard_of}")
    text(staff, "/admin/usage-events/")
    text(staff, "/admin/usage-events/evt_x/", 404)
    assert "usage-events" in staff.get("/admin/").content.decode()


def test_only_operators_who_may_see_events_do(browser: Client, event: UsageEvent) -> None:
    plain = signed_in(a_clerk())
    for path in ("/admin/usage-events/", f"/admin/usage-events/{address(event)}/"):
        assert plain.get(path).status_code == 403
        assert browser.get(path).status_code == 302
        assert Client().get(path).status_code == 302
    assert "usage-events" not in plain.get("/admin/").content.decode()


def test_a_customer_downloads_its_own_events(
    browser: Client, customer: Customer, meter: Meter, now: datetime
) -> None:
    made = [report(customer, meter, n, at=now - timedelta(days=n)) for n in range(4)]
    report(a_customer(), meter, 9)

    def file(query: str = "") -> list[str]:
        answer: Any = browser.get(f"/portal/events/file?{query}")
        assert answer.status_code == 200, answer.content
        assert (
            answer["Cache-Control"].startswith("max-age=0") or "no-store" in answer["Cache-Control"]
        )
        rows = [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]
        return [row["external_id"] for row in rows]

    assert file() == [each.external_id for each in reversed(made)]
    day = f"{now - timedelta(days=2):%F}"
    assert file(f"from={day}&to={day}") == [made[2].external_id]
    assert file(f"to={day}&format=jsonl") == [made[3].external_id, made[2].external_id]
    parquet: Any = browser.get("/portal/events/file?format=parquet")
    assert b"".join(parquet.streaming_content).startswith(b"PAR1")
    assert "From day" in text(browser, "/portal/events")


def test_a_file_that_cannot_be_made_is_said_on_the_page(
    browser: Client, customer: Customer, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = report(customer, meter, 1)
    for query, words in (
        ("from=yesterday", "Write days as 2026-11-30."),
        ("to=9999-12-31", "Write days as 2026-11-30."),
        ("from=2026-11-30&to=2026-11-01", "The last day is before the first."),
    ):
        page = text(browser, f"/portal/events/file?{query}", 422)
        assert words in page
        assert event.external_id in page
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert "choose JSON lines" in text(browser, "/portal/events/file?format=parquet", 422)
    assert Client().get("/portal/events/file").status_code == 302
