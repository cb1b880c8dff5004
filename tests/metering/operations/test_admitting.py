"""metering.operations.admitting: events of holds, of keys that ended, and in other shapes."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from accounts.domain import ids
from accounts.models import Customer
from metering.domain.counting import event_key
from metering.models import Balance, Hold, Meter, QuarantinedEvent, UsageEvent
from metering.operations import redriving
from metering.operations.redriving import Redriven
from tests.factories.metering import NOW, make_customer, make_entitlement, make_meter, open_hold
from tests.factories.quarantine import EARLIER, quarantined
from tests.factories.threads import at_once
from tests.metering.domain.shapes import samples
from tests.metering.gate.books import broken
from tests.metering.operations.test_redriving import BOUNDS, redrive, used, waiting

pytestmark = pytest.mark.django_db


@pytest.fixture
def customer() -> Customer:
    return make_customer(external_id="later")


@pytest.fixture
def meter(customer: Customer) -> Meter:
    meter = make_meter(event_type="new.thing")
    make_entitlement(customer, meter, included=1_000)
    return meter


def held(meter: Meter) -> int:
    return sum(Balance.objects.filter(meter=meter).values_list("held", flat=True))


def public(hold: Hold) -> str:
    return ids.encode_owned("hold", customer_id=hold.customer_id, key=hold.id)


def naming(hold: Hold, tokens: int = 5, **fields: Any) -> QuarantinedEvent:
    """An event in quarantine that names the hold."""
    return quarantined(properties={"tokens": tokens, "hold": public(hold)}, **fields)


@pytest.mark.parametrize(("ttl", "late"), [(10, False), (-10, True)])
def test_an_event_settles_its_hold_belated_or_not(
    customer: Customer, meter: Meter, ttl: int, late: bool
) -> None:
    hold = open_hold(customer, meter, 4, at=EARLIER, ttl=NOW - EARLIER + timedelta(minutes=ttl))
    naming(hold)
    assert redrive() == Redriven(counted=1)
    event = UsageEvent.objects.get()
    assert (event.from_hold, event.late, event.over_hold) == (False, late, True)
    assert (used(meter), held(meter)) == (5, 0)
    hold = Hold.objects.get()
    assert (hold.state, hold.closed_at) == ("settled", NOW)
    assert json.loads(hold.closing or "")["items"] == [{"meter": meter.key, "quantity": 5}]
    assert broken(customer.id) == []


def test_what_else_names_a_settled_hold_is_more_usage(customer: Customer, meter: Meter) -> None:
    hold = open_hold(customer, meter, 4, at=EARLIER)
    naming(hold)
    naming(hold, number=2)
    assert redrive() == Redriven(counted=2)
    assert (used(meter), held(meter)) == (10, 0)


def test_the_holds_own_id_is_its_settlement(customer: Customer, meter: Meter) -> None:
    hold = open_hold(customer, meter, 9, at=EARLIER)
    own = event_key(hold.source, hold.external_id)
    Hold.objects.update(id=own)
    hold.id = own
    same: dict[str, Any] = {"source": hold.source, "external_id": hold.external_id}
    naming(hold, **same)
    assert redrive() == Redriven(counted=1)
    event = UsageEvent.objects.get()
    assert (event.from_hold, event.over_hold, event.id) == (True, False, own)
    for number, tokens, code in ((2, 5, None), (3, 6, "id_reused")):
        UsageEvent.objects.update(fingerprint=7)  # as if it had been settled by a call
        row = naming(hold, tokens, number=number, **same)
        assert redrive() == (Redriven(refused=1) if code else Redriven(duplicates=1))
        row.refresh_from_db()
        assert row.state == ("waiting" if code else "duplicate")
    assert row.code == "id_reused"
    assert (used(meter), held(meter)) == (5, 0)


def test_a_hold_that_is_gone_waits_for_a_person(customer: Customer, meter: Meter) -> None:
    released = open_hold(customer, meter, 4, at=EARLIER)
    Hold.objects.update(state="released", closed_at=EARLIER)
    foreign = open_hold(make_customer(), meter, 4, at=EARLIER)
    rows = [
        naming(released),
        naming(foreign, number=2),
        quarantined(3, properties={"tokens": 5, "hold": 7}),
    ]
    assert redrive() == Redriven(refused=3)
    codes = [QuarantinedEvent.objects.get(id=row.id).code for row in rows]
    assert codes == ["hold_released", "not_found", "not_found"]
    assert redrive(now=NOW + timedelta(hours=1)) == Redriven()  # no run tries them again
    chosen = [row.id for row in rows]
    assert redrive(event_ids=chosen, now=NOW + timedelta(hours=1)) == Redriven(counted=3)
    assert used(meter) == 15
    assert Hold.objects.get(customer_id=customer.id).state == "released"


def test_an_event_of_none_of_the_holds_meters_stays(customer: Customer, meter: Meter) -> None:
    naming(open_hold(customer, make_meter(), 4, at=EARLIER))
    assert redrive() == Redriven(refused=1)
    assert waiting().get().detail == "The event counts on no meter of the hold."


@pytest.mark.parametrize("code", ["key_revoked", "key_expired"])
def test_usage_of_a_key_that_ended_counts_if_a_person_says_so(
    customer: Customer, meter: Meter, code: str
) -> None:
    row = quarantined(subject="", customer=customer, code=code)
    assert redrive() == Redriven()
    assert redrive(event_ids=[row.id]) == Redriven(counted=1)
    assert used(meter) == 5


def test_a_person_may_say_whose_an_event_is(customer: Customer, meter: Meter) -> None:
    other = make_customer()
    rows = [quarantined(1, subject="", code="key_unknown"), quarantined(2, subject="nobody")]
    mine = quarantined(3)
    chosen = [row.id for row in rows]
    assert redrive(event_ids=chosen) == Redriven(refused=2)
    assert [row.code for row in waiting().order_by("id")][:2] == ["key_unknown", "customer_unknown"]
    assert redrive(event_ids=[mine.id], customer=other) == Redriven(refused=1)
    mine.refresh_from_db()
    assert mine.code == "meter_unknown"
    assert mine.detail == (
        f"It is of {customer.public_id}, and not of {other.public_id}: leave `customer` out."
    )
    chosen.append(mine.id)
    assert redrive(event_ids=chosen, customer=customer) == Redriven(counted=3)
    assert used(meter) == 15


def untranslated(shape: str, item: dict[str, Any], **fields: Any) -> QuarantinedEvent:
    given: dict[str, Any] = {
        "subject": "",
        "external_id": "",
        "event_id": None,
        "type": "",
        "shape": shape,
        "options": {"type": "new.thing", "customer": None},
        "code": "parameter_missing",
        **fields,
    }
    return quarantined(properties=item, **given)


LAGO = samples.LAGO | {"external_subscription_id": "", "timestamp": EARLIER.timestamp()}


@pytest.mark.parametrize(
    ("shape", "item"),
    [
        ("lago", LAGO),
        ("apipark", {"request_id": "r1", "status": "200"}),
        ("access-log", {"request_id": "r1", "status": "200"}),
        ("litellm", {"litellm_call_id": "c1", "metadata": {}}),
    ],
)
def test_what_could_not_be_translated_counts_once_it_is_known_whose_it_is(
    customer: Customer, shape: str, item: dict[str, Any]
) -> None:
    counted = make_meter(event_type="new.thing", aggregation="count")
    make_entitlement(customer, counted)
    row = untranslated(shape, item)
    assert redrive() == Redriven(refused=1)
    assert redrive(event_ids=[row.id], customer=customer) == Redriven(counted=1)
    event = UsageEvent.objects.get()
    row.refresh_from_db()
    assert (row.state, row.customer_id, row.event_id) == ("counted", customer.id, event.id)
    assert (row.external_id, row.type, row.properties) == (event.external_id, "new.thing", {})
    assert used(counted) == 1


@pytest.mark.parametrize(
    ("shape", "item"),
    [
        ("lago", samples.LAGO | {"timestamp": EARLIER.timestamp()}),
        ("apipark", {"request_id": "r1", "status": "200", "application": "acme"}),
        ("access-log", {"request_id": "r1", "status": "200", "customer": "acme"}),
        ("litellm", {"litellm_call_id": "c1", "end_user": "acme"}),
    ],
)
def test_what_names_its_customer_is_billed_to_no_other(shape: str, item: dict[str, Any]) -> None:
    counted = make_meter(event_type="new.thing", aggregation="count")
    acme, other = make_customer(external_id="acme"), make_customer()
    make_entitlement(acme, counted)
    make_entitlement(other, counted)
    row = untranslated(shape, item, subject="acme")
    assert redrive(event_ids=[row.id], customer=other) == Redriven(refused=1)
    row.refresh_from_db()
    assert (row.code, row.detail) == (
        "parameter_missing",
        f"It is of {acme.public_id}, and not of {other.public_id}: leave `customer` out.",
    )
    assert redrive(event_ids=[row.id], customer=acme) == Redriven(counted=1)
    assert UsageEvent.objects.get().customer_id == acme.id


def test_a_key_that_nobody_has_is_that_whatever_else_was_wrong(
    customer: Customer, meter: Meter
) -> None:
    row = quarantined(subject="", code="key_unknown", type="old.thing")
    assert redrive(event_ids=[row.id], customer=customer) == Redriven(refused=1)
    row.refresh_from_db()
    assert row.code == "meter_unknown"
    assert redrive(event_ids=[row.id]) == Redriven(refused=1)
    row.refresh_from_db()
    assert (row.code, row.detail) == ("key_unknown", "No customer has its key.")


@pytest.mark.parametrize(
    ("shape", "item", "detail"),
    [
        ("lago", samples.LAGO | {"transaction_id": "x" * 256}, "Its id is longer than 255."),
        ("lago", samples.LAGO | {"code": ""}, "code says which meters count the event."),
        ("apipark", samples.APIPARK | {"application": "-"}, "It says that it is nobody's usage."),
        ("lago", samples.LAGO, "There is no such customer."),
    ],
)
def test_what_still_cannot_be_read_says_why(shape: str, item: dict[str, Any], detail: str) -> None:
    untranslated(shape, item, options={"type": None, "customer": None})
    assert redrive() == Redriven(refused=1)
    assert waiting().get().detail == detail


def test_where_an_event_went_is_kept_for_a_while(
    customer: Customer, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redriving, "WENT_MAX", 2)
    rows = [quarantined(number) for number in range(1, 5)]
    for place, row in enumerate(rows):
        at = NOW + timedelta(seconds=place)
        assert redrive(event_ids=[row.id], now=at) == Redriven(counted=1)
    left = list(QuarantinedEvent.objects.order_by("id"))
    assert [row.id for row in left] == [row.id for row in rows[2:]]
    assert (left[0].state, left[0].digest, left[0].size) == ("counted", None, 0)
    assert left[0].code == "meter_unknown"
    assert redriving.discard(event_ids=[left[0].id], actor="mem_1", now=NOW) == 0


def test_one_that_was_taken_meanwhile_is_left(customer: Customer, meter: Meter) -> None:
    row = quarantined()
    assert redrive(event_ids=[row.id, row.id]) == Redriven(counted=1)
    given: dict[str, Any] = {"given": None, "chosen": True, "now": NOW}
    assert redriving._redrive_one(row.id, bounds=BOUNDS, **given) == "taken"


@pytest.mark.django_db(transaction=True)
def test_two_at_once_count_it_once() -> None:
    customer = make_customer(external_id="later")
    meter = make_meter(event_type="new.thing")
    make_entitlement(customer, meter)
    row = quarantined()
    done = at_once([lambda: redrive(event_ids=[row.id])] * 4)
    assert sorted(each.counted for each in done) == [0, 0, 0, 1]
    assert sum(each.duplicates + each.refused for each in done) == 0
    assert used(meter) == 5
    assert UsageEvent.objects.count() == 1
