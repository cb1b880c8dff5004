"""Which refused events are kept, and that they count once when what was wrong is mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import transaction

from accounts.models import ApiKey, Customer
from accounts.operations.versions import bump, bump_catalogue
from metering.domain.counting import TimeBounds
from metering.models import Hold, Meter, QuarantinedEvent, UsageEvent
from metering.operations.redriving import Redriven, redrive
from tests.factories.threads import at_once
from tests.metering.domain.shapes import samples
from tests.metering.gate.books import broken
from tests.metering.gate.client import GateProcess, make_api_key
from tests.metering.gate.conftest import World, entitle
from tests.metering.gate.test_quarantine import event, metric, places, post

pytestmark = pytest.mark.django_db(transaction=True)
BOUNDS = TimeBounds(max_age=timedelta(days=90), max_ahead=timedelta(minutes=5))
UNISSUED = "fb_key_000000000000000000000000000000001579PO"  # well-formed


@pytest.fixture
def keeping(world: World) -> Iterator[GateProcess]:
    """A gate that keeps refused events, of 300,000 bytes together."""
    process = GateProcess(quarantine=100, quarantine_bytes=300_000)
    process.key = world.gate.key
    yield process
    process.stop()


def again(*rows: QuarantinedEvent, customer: Customer | None = None) -> Redriven:
    """Try all that wait again, or these by name."""
    return redrive(
        event_ids=[row.id for row in rows] or None,
        customer=customer,
        limit=100,
        bounds=BOUNDS,
        actor="mem_1",
        now=datetime.now(UTC),
    )


def test_the_answer_says_where_an_event_is_kept(world: World, keeping: GateProcess) -> None:
    got = post(keeping, event("1"), event("2"))
    kept = {row.external_id: row.public_id for row in QuarantinedEvent.objects.all()}
    assert [each["event"] for each in got.body["rejected"]] == [kept["1"], kept["2"]]
    assert post(keeping, event("1")).body["rejected"][0]["event"] == kept["1"]


def test_events_of_holds_are_kept_and_settle_them(world: World, keeping: GateProcess) -> None:
    held = world.check(meter="chat.tokens", mode="hold", id="h", quantity=30)
    hold = held.body["hold"]["id"]
    mine = {"subject": world.customer.public_id}
    got = post(keeping, event("1", **mine, data={"hold": hold, "tokens": 20}))
    assert places(got) == [0]
    lost = post(keeping, event("2", **mine, type="api.call", data={"hold": "hold_x"}))
    assert (lost.body["rejected"][0]["code"], places(lost)) == ("not_found", [0])

    Meter.objects.filter(id=world.tokens.id).update(event_type="new.thing")
    assert again() == Redriven(counted=1)
    assert world.balance(world.tokens) == (20, 0)
    assert Hold.objects.get().state == "settled"
    closed = world.gate.send("POST", f"/api/v1/holds/{hold}/settle", {"quantity": 20})
    assert (closed.status, closed.body["code"]) == (422, "id_reused")
    assert world.gate.send("GET", f"/api/v1/holds/{hold}").body["hold"]["state"] == "settled"
    assert broken(world.customer.id) == []


def test_usage_of_keys_that_are_not_good_is_kept_without_them(
    world: World, keeping: GateProcess
) -> None:
    past = datetime.now(UTC) - timedelta(hours=1)
    made_at = past - timedelta(hours=1)
    expired = make_api_key(world.customer, created_at=made_at, expires_at=past)
    with transaction.atomic():
        bump(world.customer.id)
        ApiKey.objects.filter(expires_at=None).update(revoked_at=past)
    calls: dict[str, Any] = {"type": "api.call", "data": {}}
    got = post(
        keeping,
        event("revoked", subject=world.key, **calls),
        event("expired", subject=expired, **calls),
        event("unknown", subject=UNISSUED, **calls),
    )
    codes = [each["code"] for each in got.body["rejected"]]
    assert codes == ["key_revoked", "key_expired", "key_unknown"]
    assert places(got) == [0, 1, 2]
    kept = {row.external_id: row for row in QuarantinedEvent.objects.all()}
    assert {row.subject for row in kept.values()} == {""}
    owners = {name: row.customer_id for name, row in kept.items()}
    mine = world.customer.id
    assert owners == {"revoked": mine, "expired": mine, "unknown": None}
    assert again() == Redriven()  # it is for a person to say that they count
    assert again(kept["revoked"], kept["expired"]) == Redriven(counted=2)
    assert again(kept["unknown"], customer=world.customer) == Redriven(counted=1)
    assert world.balance(world.calls) == (3, 0)


def test_no_key_is_kept_wherever_in_the_subject_it_is(world: World, keeping: GateProcess) -> None:
    keys = (f"Bearer {UNISSUED}", f"Bearer {UNISSUED}Z", "fb_op_abc123", "fb_gw_abc123")
    for _ in range(2):
        got = post(keeping, *(event("1", subject=subject) for subject in keys))
        assert places(got) == [0, 1, 2, 3]
    item = {k: v for k, v in samples.APIPARK.items() if k != "request_id"}
    foreign = item | {"application": keys[0]}
    assert places(keeping.send("POST", "/api/v1/ingest/apipark", foreign)) == [0]
    kept = QuarantinedEvent.objects.order_by("id")
    assert sorted(kept.values_list("subject", flat=True)) == sorted(
        ["Bearer fb_key_…"] * 3 + ["fb_op_…", "fb_gw_…"]  # two texts are still two events
    )
    assert sorted(kept.values_list("times", flat=True)) == [1, 2, 2, 2, 2]
    assert UNISSUED not in str(list(kept.values()))


WHO = ("user_api_key_team_id", "user_api_key_end_user_id")
NOBODY = {k: v for k, v in samples.LITELLM["metadata"].items() if k not in WHO}
BAD: dict[str, dict[str, Any]] = {
    "ingest/litellm": samples.LITELLM | {"metadata": NOBODY},
    "ingest/apipark": {k: v for k, v in samples.APIPARK.items() if k != "application"},
    "ingest/access-log": {k: v for k, v in samples.NGINX.items() if k != "customer"},
    "events/batch": {"events": [samples.LAGO | {"external_subscription_id": ""}]},
    "events": {"event": samples.LAGO | {"timestamp": "yesterday"}},
}


@pytest.mark.parametrize("path", BAD)
def test_what_no_translator_takes_is_kept_once_and_counted_once(
    world: World, keeping: GateProcess, path: str
) -> None:
    for _ in range(2):
        got = keeping.send("POST", f"/api/v1/{path}", BAD[path])
        assert places(got) == [0], got
    row = QuarantinedEvent.objects.get()
    assert (row.times, row.external_id, row.source) == (2, "", "edge-1")
    assert row.shape in {*path.split("/"), "lago"}
    assert "secret" not in str(row.properties)
    if path == "events":
        assert (row.subject, row.code) == ("acme", "parameter_invalid")
        return
    Meter.objects.filter(id=world.calls.id).update(event_type="http.request")
    for key, event_type in (("m1", "llm.completion"), ("m2", "chat.call")):
        made = Meter.objects.create(
            key=key, event_type=event_type, aggregation="count", created_at=row.first_at
        )
        entitle(world.customer, made, included=10)
    Meter.objects.filter(id=world.tokens.id).update(value_property="total_tokens")
    with transaction.atomic():
        bump_catalogue()
    assert again(row, customer=world.customer) == Redriven(counted=1)
    assert UsageEvent.objects.count() == 1
    # Mended by its sender, and sent again: it was counted.
    cus = world.customer.public_id
    named = NOBODY | {"user_api_key_auth_metadata": {"farebox_customer": cus}}
    mended = {
        "ingest/litellm": BAD[path] | {"metadata": named},
        "ingest/apipark": BAD[path] | {"farebox_customer": cus},
        "ingest/access-log": BAD[path] | {"customer": cus},
        "events/batch": {"events": [samples.LAGO | {"external_customer_id": cus}]},
    }[path]
    assert keeping.send("POST", f"/api/v1/{path}", mended).body["duplicates"] == 1
    assert UsageEvent.objects.count() == 1


def test_what_is_no_object_is_not_kept(world: World, keeping: GateProcess) -> None:
    nul = b'[7, {"litellm_call_id": "a\\u0000b"}, {"litellm_call_id": "c", "metadata": {}}]'
    got = keeping.send("POST", "/api/v1/ingest/litellm", nul)
    assert places(got) == [2]


def test_it_holds_no_more_bytes_than_it_may_and_says_so(world: World, keeping: GateProcess) -> None:
    before = [metric("unquarantined", why=why) for why in ("bytes", "large", "events")]
    large, half = {"n": "x" * 66_000}, {"n": "x" * 60_000}
    got = post(keeping, event("large", data=large), *(event(f"e{n}", data=half) for n in range(6)))
    assert places(got) == [1, 2, 3, 4]
    sizes = list(QuarantinedEvent.objects.values_list("size", flat=True))
    assert all(60_000 < size < 61_000 for size in sizes)
    # A repeat may not grow past the limit either: the first one stays.
    grown = post(keeping, event("e0", data={"n": "y" * 65_000}), event("e1", data={"n": "y"}))
    assert places(grown) == [0, 1]
    more = [event(f"f{n}", data=half) for n in range(2)]
    assert places(post(keeping, *more)) == [0]
    assert places(post(keeping, event("e1", data={"n": "z" * 65_000}))) == []
    assert QuarantinedEvent.objects.get(external_id="e1").properties == {"n": "y"}
    after = [metric("unquarantined", why=why) for why in ("bytes", "large", "events")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [4, 1, 0]


def test_what_waits_for_a_person_takes_half_of_the_room(world: World) -> None:
    few = GateProcess(quarantine=5, quarantine_bytes=300_000)
    few.key = world.gate.key
    before = [metric("unquarantined", why=why) for why in ("bytes", "events")]
    try:
        made_up = [event(f"m{n}", subject=f"fb_key_{n}") for n in range(4)]
        mixed = [*made_up, event("a"), event("b")]
        assert places(post(few, *mixed)) == [0, 1, 2, 4, 5]
        assert places(post(few, made_up[0], made_up[3])) == [0]
        QuarantinedEvent.objects.all().delete()
        large = {"n": "x" * 60_000}
        made_up = [event(f"m{n}", subject=f"fb_key_{n}", data=large) for n in range(4)]
        mixed = [*made_up, event("a", data=large), event("b", data=large)]
        assert places(post(few, *mixed)) == [0, 1, 4, 5]
    finally:
        few.stop()
    after = [metric("unquarantined", why=why) for why in ("bytes", "events")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 3]


def test_what_comes_again_while_it_is_tried_again_counts_once(
    world: World, keeping: GateProcess
) -> None:
    mine: dict[str, Any] = {"subject": "later", "type": "api.call", "data": {}}
    post(keeping, *(event(f"e{n}", **mine) for n in range(8)))
    Customer.objects.filter(id=world.customer.id).update(external_id="later")
    rows = list(QuarantinedEvent.objects.order_by("id"))
    for place, row in enumerate(rows):
        try_again = partial(again, row)
        report = partial(post, keeping, event(f"e{place}", **mine))
        work: list[Callable[[], Any]] = [try_again, try_again, report]
        done = at_once(work)
        counted = sum(each.counted for each in done[:2]) + done[2].body["accepted"]
        assert counted == 1
    assert world.balance(world.calls) == (8, 0)
    assert not QuarantinedEvent.objects.filter(state="waiting").exists()
    assert broken(world.customer.id) == []
