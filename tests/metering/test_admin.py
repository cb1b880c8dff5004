"""metering.admin: looked at, archived, never edited."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.test import Client

from accounts.models import AuditEntry, Member
from metering.models import Backfill, Fault, Meter, PriceTableVersion
from metering.operations.backfilling import Supplied, open_backfill, supply
from metering.operations.defining import change_meter
from metering.operations.entitling import OfferTerms, publish_offers
from metering.operations.pricing import activate_prices, create_price_table, draft_prices
from tests.factories.metering import NOW, make_customer, make_meter

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


def test_versions_of_a_meter_stand_on_its_page(staff: Client) -> None:
    meter = make_meter()
    ahead = timedelta(minutes=5)
    change_meter(meter.id, event_type="another.type", ahead=ahead, actor="opk_1", now=NOW)
    page = staff.get(f"/admin/metering/meter/{meter.pk}/change/").content.decode()
    assert "another.type" in page
    assert "versions-0-DELETE" not in page


def test_prices_show_what_they_change_and_are_activated_by_action(staff: Client) -> None:
    table = create_price_table(key="llm", actor="opk_1", now=NOW)
    for price in ("0.000002", "0.000003", "0.000004"):
        prices = {("<m>", "input"): Decimal(price)}
        if price == "0.000004":
            prices |= {(f"m-{n}", "input"): Decimal(1) for n in range(300)}
        draft_prices(table.id, prices=prices, actor="opk_1", now=NOW)
    first, second, third = PriceTableVersion.objects.order_by("number")
    address = "/admin/metering/pricetableversion/"

    def activate(*versions: PriceTableVersion) -> str:
        chosen = {"action": "activate", "_selected_action": [each.pk for each in versions]}
        return staff.post(address, chosen, follow=True).content.decode()

    activate(first)
    page = staff.get(f"{address}{second.pk}/change/").content.decode()
    assert "changed: &lt;m&gt; input: 0.000002 → 0.000003" in page
    activate(second)
    assert "0.000002 → 0.000003" in staff.get(f"{address}{second.pk}/change/").content.decode()
    assert "… and 101 more" in staff.get(f"{address}{third.pk}/change/").content.decode()
    second.refresh_from_db()
    assert second.status == "active"
    audited = AuditEntry.objects.filter(action="price_table.activated")
    assert [entry.actor[:4] for entry in audited] == ["mem_", "mem_"]
    for path in (address, "/admin/metering/pricetable/"):
        assert staff.get(path).status_code == 200
        assert staff.get(f"{path}add/").status_code == 403
    assert staff.post(f"{address}{third.pk}/change/", {"number": 9}).status_code == 403
    assert "llm" in staff.get(f"/admin/metering/pricetable/{table.pk}/change/").content.decode()
    # What would begin before another begins is refused and said.
    later = timedelta(days=9)
    activate_prices(
        table.id, number=3, effective_at=datetime.now(UTC) + later,
        ahead=timedelta(0), actor="opk_1", now=NOW,
    )  # fmt: skip
    draft_prices(table.id, prices={("*", "input"): Decimal(1)}, actor="opk_1", now=NOW)
    fourth = PriceTableVersion.objects.get(number=4)
    assert "version 3 begins at" in activate(fourth)
    fourth.refresh_from_db()
    assert fourth.status == "draft"


def test_backfills_are_closed_and_reverted_by_action(staff: Client) -> None:
    customer, meter = make_customer(), make_meter()
    made = open_backfill(
        mode=Backfill.Mode.ADD,
        event_type=meter.event_type,
        customer_ids=[customer.id],
        start_at=NOW - timedelta(days=2),
        end_at=NOW,
        reason="an outage",
        actor="opk_1",
        now=NOW,
    )
    supply(
        made.id,
        events=[Supplied(customer.id, "archive", "1", NOW - timedelta(days=1), {"tokens": 3})],
    )

    def act(action: str) -> str:
        answer = staff.post(
            "/admin/metering/backfill/",
            {"action": action, "_selected_action": [made.pk]},
            follow=True,
        )
        made.refresh_from_db()
        return answer.content.decode()

    page = staff.get(f"/admin/metering/backfill/{made.pk}/change/").content.decode()
    assert "1 supplied, 1 waiting" in page
    act("close")
    assert made.status == "closing"
    act("revert")
    assert made.status == "reverting"
    assert "was reverted" in act("close")
    assert AuditEntry.objects.get(action="backfill.reverted").actor.startswith("mem_")


def test_the_index_leads_to_the_usage_events(staff: Client) -> None:
    page = staff.get("/admin/").content.decode()
    assert page.count('href="/admin/usage-events/"') == 1
