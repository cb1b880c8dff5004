"""POST /events: each event has its own fate and is counted once."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction

from accounts.models import GatewayKey
from accounts.operations.versions import bump_catalogue
from metering.models import Balance, Meter, UsageEvent
from tests.metering.gate.client import Got, make_api_key
from tests.metering.gate.conftest import World, change

pytestmark = pytest.mark.django_db(transaction=True)


def event(world: World, id_: str, **fields: Any) -> dict[str, Any]:
    """A CloudEvent of 100 tokens."""
    given = {
        "specversion": "1.0",
        "id": id_,
        "source": "app",
        "type": "llm.completion",
        "subject": world.customer.public_id,
        "data": {"tokens": 100, "model": "m-1"},
    }
    return given | fields


def post(world: World, body: Any, **headers: str) -> Got:
    """POST /events."""
    return world.gate.send("POST", "/api/v1/events", body, headers=headers)


def test_an_id_is_the_same_in_every_mode_of_cloudevents(world: World) -> None:
    id_, source = "a b/ä%41", "/Grüße?100%"
    attributes = {
        "ce-specversion": "1.0",
        "ce-id": "a%20b/%C3%a4%2541",
        "ce-source": "/Gr%C3%BC%C3%9Fe?100%25",
        "ce-type": "llm.completion",
        "ce-subject": world.customer.public_id,
    }
    assert post(world, {"tokens": 100, "model": "m-1"}, **attributes).body["accepted"] == 1

    structured = {"content-type": "application/cloudevents+json", "ce-id": "another"}
    got = post(world, event(world, id_, source=source), **structured)

    assert got.body["duplicates"] == 1
    assert post(world, [event(world, id_, source=source)]).body["duplicates"] == 1
    row = UsageEvent.objects.get()
    assert (row.external_id, row.source) == (id_, source)


def test_headers_of_an_event_that_are_no_text_are_refused(world: World) -> None:
    got = post(world, {"tokens": 1}, **{"ce-id": "%ff", "ce-source": "app"})
    assert (got.status, got.body["code"]) == (400, "envelope_malformed")
    assert UsageEvent.objects.count() == 0


@pytest.mark.parametrize("many", [False, True])
def test_data_in_base64_is_refused_and_not_lost(world: World, many: bool) -> None:
    given = event(world, "1", data_base64="eyJ0b2tlbnMiOjUwfQ==")
    del given["data"]

    got = post(world, [given, event(world, "2")] if many else given)

    assert got.body["accepted"] == (1 if many else 0)
    assert got.body["rejected"][0]["param"] == "data_base64"
    assert UsageEvent.objects.count() == (1 if many else 0)


def test_a_backslash_before_u0000_is_no_character(world: World) -> None:
    raw = [event(world, "1", data={"tokens": 1, "model": r"C:\u0000"})]
    assert post(world, raw).body["accepted"] == 1
    assert (UsageEvent.objects.get().properties or {})["model"] == r"C:\u0000"
    nul = [event(world, "2", data={"tokens": 1, "model": "C:\\\0"})]
    assert post(world, nul).body["rejected"][0]["code"] == "parameter_invalid"


def test_a_compressed_body_is_told_so(world: World) -> None:
    packed = gzip.compress(json.dumps([event(world, "1")]).encode())
    got = post(world, packed, **{"content-encoding": "gzip"})
    assert (got.status, got.body["code"]) == (415, "media_type_unsupported")
    assert "compressed" in got.body["detail"]
    assert UsageEvent.objects.count() == 0


def test_as_many_events_as_a_request_may_have(world: World) -> None:
    got = post(world, [event(world, f"e{n}") for n in range(5_000)])
    assert got.body == {"accepted": 5_000, "duplicates": 0, "rejected": []}
    assert world.balance(world.tokens) == (500_000, 0)


def test_a_batch_is_counted_and_its_repeat_is_not(world: World) -> None:
    batch = [event(world, f"e{n}") for n in range(5)]
    first = post(world, batch)
    retried = [each | {"time": datetime.now(UTC).isoformat()} for each in batch]
    again = post(world, retried)

    assert (first.status, first.body) == (200, {"accepted": 5, "duplicates": 0, "rejected": []})
    assert again.body == {"accepted": 0, "duplicates": 5, "rejected": []}
    assert world.balance(world.tokens) == (500, 0)
    assert UsageEvent.objects.count() == 5


def test_all_modes_of_cloudevents(world: World) -> None:
    post(world, event(world, "1"), **{"content-type": "application/cloudevents+json"})
    post(world, [event(world, "2")], **{"content-type": "application/cloudevents-batch+json"})
    attributes = {
        "ce-specversion": "1.0",
        "ce-id": "3",
        "ce-source": "app",
        "ce-type": "llm.completion",
        "ce-subject": world.customer.public_id,
    }
    got = post(world, {"tokens": 50}, **attributes)
    assert got.body["accepted"] == 1
    assert world.balance(world.tokens) == (250, 0)


def test_usage_is_counted_past_the_limit_because_it_happened(world: World) -> None:
    got = post(world, [event(world, "big", data={"tokens": 7_000})])
    assert got.body["accepted"] == 1
    denied = world.check(meter="chat.tokens")
    assert denied.status == 402
    assert denied.body["balances"][0]["overage"] == 2_000


def test_usage_is_counted_whatever_the_standing(world: World) -> None:
    change(world.customer, deny_code="payment_failed", deny_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert post(world, [event(world, "1")]).body["accepted"] == 1
    assert world.balance(world.tokens) == (100, 0)


def test_wrong_events_touch_no_others(world: World) -> None:
    old = (datetime.now(UTC) - timedelta(days=91)).isoformat()
    ahead = (datetime.now(UTC) + timedelta(minutes=6)).isoformat()
    wrong = {
        "meter_unknown": event(world, "a", type="unheard.of"),
        "quantity_invalid": event(world, "b", data={"tokens": 1.5}),
        "customer_unknown": event(world, "c", subject="nobody"),
        "time_out_of_range": event(world, "d", time=old),
        "parameter_missing": {"id": "e"},
        "parameter_invalid": event(world, "f", specversion="0.3"),
    }
    batch: list[Any] = [event(world, "good-1"), *wrong.values(), event(world, "good-2")]
    batch += [event(world, "g", time=ahead), event(world, "h", data={"tokens": -1})]
    batch += [event(world, "i", data={}), 7, event(world, "j", subject="fb_key_typo")]

    got = post(world, batch)

    assert (got.body["accepted"], got.body["duplicates"]) == (2, 0)
    rejected = {each["index"]: each["code"] for each in got.body["rejected"]}
    assert [rejected[place] for place in range(1, 7)] == list(wrong)
    assert [rejected[place] for place in range(8, 13)] == [
        "time_out_of_range",
        "quantity_invalid",
        "quantity_invalid",
        "parameter_invalid",
        "key_malformed",
    ]
    assert {each["id"] for each in got.body["rejected"]} >= set("abcdefghij")
    assert world.balance(world.tokens) == (200, 0)


def test_the_same_id_in_one_batch_and_with_another_body(world: World) -> None:
    got = post(world, [event(world, "1"), event(world, "1"), event(world, "1", data={"tokens": 9})])
    assert (got.body["accepted"], got.body["duplicates"]) == (1, 1)
    assert got.body["rejected"][0]["code"] == "id_reused"
    got = post(world, [event(world, "1", data={"tokens": 9})])
    assert got.body["rejected"][0]["code"] == "id_reused"
    assert world.balance(world.tokens) == (100, 0)


def test_two_batches_with_the_same_events_at_the_same_moment(world: World) -> None:
    batch = [event(world, f"e{n}") for n in range(20)]
    got = world.gate.together(("/api/v1/events", batch), ("/api/v1/events", batch))
    assert sorted(each.body["accepted"] for each in got) == [0, 20]
    assert sorted(each.body["duplicates"] for each in got) == [0, 20]
    assert world.balance(world.tokens) == (2_000, 0)


def test_late_usage_counts_in_the_window_it_happened_in(world: World) -> None:
    then = datetime.now(UTC) - timedelta(days=35)
    post(world, [event(world, "now"), event(world, "then", time=then.isoformat())])

    rows = Balance.objects.filter(customer_id=world.customer.id, meter=world.tokens)
    assert {(row.start_at <= then < row.end_at, row.used) for row in rows} == {
        (True, 100),
        (False, 100),
    }


def test_subjects_by_key_and_external_id(world: World) -> None:
    other = make_api_key(world.customer)
    got = post(world, [event(world, "1", subject=world.key), event(world, "2", subject=other)])
    assert got.body["accepted"] == 2


def test_an_explicit_quantity(world: World) -> None:
    got = post(world, [event(world, "1", type="api.call", data={"quantity": 12})])
    assert got.body["accepted"] == 1
    assert world.balance(world.calls) == (12, 0)


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", {}, 400, "envelope_malformed"),
        (b"7", {}, 400, "envelope_malformed"),
        (b"[", {}, 400, "body_malformed"),
        (b"[]x", {}, 400, "body_malformed"),
        (b"{}", {"content-type": "application/cloudevents-batch+json"}, 400, "envelope_malformed"),
        (b"[]", {"content-type": "application/cloudevents+json"}, 400, "envelope_malformed"),
        (b"<a/>", {"content-type": "text/xml"}, 415, "media_type_unsupported"),
        (b"[" + b"1," * 5_000 + b"1]", {}, 422, "too_many_items"),
    ],
)
def test_what_is_no_envelope_is_refused_whole(
    world: World, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    got = post(world, body, **headers)
    assert (got.status, got.body["code"]) == (status, code)
    assert UsageEvent.objects.count() == 0


def test_nothing_to_count(world: World) -> None:
    assert post(world, []).body == {"accepted": 0, "duplicates": 0, "rejected": []}


def test_a_gateway_whose_key_was_revoked_is_told_so_and_nothing_is_counted(world: World) -> None:
    assert post(world, event(world, "e1")).body["accepted"] == 1  # the process knows the key
    with transaction.atomic():
        GatewayKey.objects.update(revoked_at=datetime.now(UTC))
        bump_catalogue()
    before = world.state()

    got = post(world, [event(world, f"e{n}") for n in range(2, 5)])

    assert (got.status, got.body["code"]) == (401, "key_revoked")
    assert world.state() == before


@pytest.mark.parametrize("time", ["9999-12-31T00:00:00Z", "0001-01-01T00:00:00Z"])
def test_times_at_the_ends_of_the_calendar_are_refused_like_others(world: World, time: str) -> None:
    with transaction.atomic():
        Meter.objects.filter(id=world.tokens.id).update(
            aggregation="unique", value_property="model"
        )
        bump_catalogue()
    before = world.state()

    got = post(world, event(world, "e1", time=time))

    assert [each["code"] for each in got.body["rejected"]] == ["time_out_of_range"]
    asked = world.check(
        meter="chat.tokens", mode="consume", id="c1", properties={"model": "m"}, time=time
    )
    assert (asked.status, asked.body["code"]) == (422, "time_out_of_range")
    assert world.state() == before
