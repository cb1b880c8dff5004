"""Usage in every shape over HTTP: the same events, counted once, each with its own fate."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection, transaction

from accounts.models import Customer
from accounts.operations.versions import bump_catalogue
from metering.models import Hold, Meter, UsageEvent
from tests.metering.domain.shapes import samples
from tests.metering.gate.client import GateProcess, Got, make_api_key
from tests.metering.gate.conftest import World, entitle, make_customer

pytestmark = pytest.mark.django_db(transaction=True)
LITELLM = "/api/v1/ingest/litellm"
APIPARK = "/api/v1/ingest/apipark"
LOGS = "/api/v1/ingest/access-log"


@pytest.fixture
def acme(gate: GateProcess) -> Customer:
    """A customer that the samples name, with meters for what they report."""
    now = datetime.now(UTC)
    customer = make_customer()
    Customer.objects.filter(id=customer.id).update(external_id="acme")
    for key, event_type, value in (
        ("tokens", "llm.completion", "total_tokens"),
        ("cached", "llm.completion", "cached_input_tokens"),
        ("requests", "http.request", ""),
        ("chat", "chat.call", "tokens"),
    ):
        meter = Meter.objects.create(
            key=key,
            event_type=event_type,
            aggregation="sum" if value else "count",
            value_property=value,
            created_at=now,
        )
        entitle(customer, meter, included=1_000_000)
    with transaction.atomic():
        bump_catalogue()
    return customer


def used(customer: Customer) -> dict[str, int]:
    """What the customer's balances say, by meter."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT m.key, sum(b.used)::bigint FROM metering_balance AS b "
            "JOIN metering_meter AS m ON m.id = b.meter_id WHERE b.customer_id = %s GROUP BY 1",
            [customer.id],
        )
        return dict(cursor.fetchall())


def counted(accepted: int = 0, duplicates: int = 0, **more: Any) -> dict[str, Any]:
    """The body of an answer without rejections."""
    return {"accepted": accepted, "duplicates": duplicates, "rejected": [], **more}


def recent(item: dict[str, Any], *names: str) -> dict[str, Any]:
    """A sample that happened just now."""
    return item | dict.fromkeys(names, time.time())


def litellm(**changes: Any) -> dict[str, Any]:
    return recent(samples.LITELLM, "startTime", "endTime") | changes


def test_litellm_posts_its_payloads_in_an_array(gate: GateProcess, acme: Customer) -> None:
    calls = [litellm(litellm_call_id=f"call-{n}") for n in range(3)]
    first = gate.send("POST", LITELLM, calls)
    again = gate.send("POST", LITELLM, [*calls, litellm(litellm_call_id="call-3")])

    assert first.body == counted(3)
    assert again.body == counted(1, 3)
    assert used(acme) == {"tokens": 6_000, "cached": 4_000}
    event = UsageEvent.objects.get(external_id="call-3")
    assert (event.source, event.type) == ("edge-1", "llm.completion")
    assert event.properties is not None
    assert "messages" not in event.properties


def test_two_failed_attempts_and_the_one_that_succeeds_all_count(
    gate: GateProcess, acme: Customer
) -> None:
    asked = {"customer": "acme", "meter": "tokens", "quantity": 2_000, "mode": "hold", "id": "h"}
    hold = gate.send("POST", "/api/v1/check", asked).body["hold"]["id"]
    held = samples.LITELLM["metadata"] | {"user_api_key_auth_metadata": {"farebox_hold": hold}}
    begun = time.time()
    attempts = [
        litellm(metadata=held, status="failure", prompt_tokens=1_000, startTime=begun - 3),
        litellm(metadata=held, status="failure", prompt_tokens=1_100, startTime=begun - 2),
        litellm(metadata=held, startTime=begun - 1),
    ]
    for each in attempts:
        assert gate.send("POST", LITELLM, each).body == counted(1)
    assert used(acme) == {"tokens": 1_300 + 1_400 + 1_500, "cached": 3 * 1_000}
    assert Hold.objects.get().state == "settled"
    again = gate.send("POST", LITELLM, attempts)
    assert again.body == counted(0, 3)
    assert used(acme) == {"tokens": 1_300 + 1_400 + 1_500, "cached": 3 * 1_000}


def test_litellm_posts_one_payload(gate: GateProcess, acme: Customer) -> None:
    assert gate.send("POST", LITELLM, litellm()).body == counted(1)
    assert gate.send("POST", f"{LITELLM}/", litellm()).body == counted(0, 1)
    assert used(acme) == {"tokens": 1_500, "cached": 1_000}


def test_the_address_says_type_customer_and_source(gate: GateProcess, acme: Customer) -> None:
    key = make_api_key(acme)
    call = litellm() | {"metadata": samples.LITELLM["metadata"] | {"user_api_key_alias": key}}
    got = gate.send("POST", f"{LITELLM}?type=http.request&customer=alias&source=eu%2Flitellm", call)

    assert got.body == counted(1)
    assert used(acme) == {"requests": 1}
    event = UsageEvent.objects.get()
    assert (event.source, event.type) == ("eu/litellm", "http.request")
    assert event.api_key_id is not None


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ("kind=x", "parameter_unknown", "kind"),
        ("type=", "parameter_invalid", "type"),
        ("source=" + "x" * 201, "parameter_invalid", "source"),
        ("customer=a%00b", "parameter_invalid", "customer"),
        ("type=%ff", "parameter_invalid", None),
    ],
)
def test_an_address_that_says_it_wrongly(
    gate: GateProcess, acme: Customer, query: str, code: str, param: str | None
) -> None:
    got = gate.send("POST", f"{LITELLM}?{query}", litellm())
    assert (got.status, got.body["code"], got.body.get("param")) == (422, code, param)
    assert used(acme) == {}


def test_lago_sends_one_event_or_many(gate: GateProcess, acme: Customer) -> None:
    one = recent(samples.LAGO, "timestamp")
    more = [one | {"transaction_id": f"t-{n}"} for n in range(3)]

    assert gate.send("POST", "/api/v1/events", {"event": one}).body == counted(1)
    got = gate.send("POST", "/api/v1/events/batch", {"events": [one, *more]})
    assert got.body == counted(3, 1)
    assert used(acme) == {"chat": 6_000}


def test_apipark_sends_a_call_at_a_time(gate: GateProcess, acme: Customer) -> None:
    call = samples.APIPARK | {"msec": str(int(time.time() * 1_000))}
    nobody = call | {"request_id": "other", "application": "-"}
    plain = call | {"request_id": "third", "ai_model": ""}

    assert gate.send("POST", APIPARK, call).body == counted(1)
    assert gate.send("POST", APIPARK, call).body == counted(0, 1)
    assert gate.send("POST", APIPARK, nobody).body == counted(0, ignored=1)
    assert gate.send("POST", APIPARK, [plain]).body == counted(1)
    assert used(acme) == {"tokens": 100, "cached": 0, "requests": 1}


def now_in(line: dict[str, Any]) -> dict[str, Any]:
    """A line of a log that was written just now."""
    name = next(name for name in ("time", "ts", "start_time", "StartUTC") if name in line)
    return line | {name: f"{datetime.now(UTC).isoformat(timespec='microseconds')}"}


@pytest.mark.parametrize("kind", ["application/x-ndjson", "text/plain; charset=utf-8"])
def test_lines_of_the_logs_of_all_proxies(gate: GateProcess, acme: Customer, kind: str) -> None:
    proxies = (samples.NGINX, samples.CADDY, samples.ENVOY, samples.TRAEFIK)
    lines = [json.dumps(now_in(line) | {"request_id": f"r-{n}"}) for n, line in enumerate(proxies)]
    lines += ["", json.dumps(samples.NGINX | {"customer": "-"})]
    headers = {"content-type": kind}

    got = gate.send("POST", LOGS, "\n".join(lines).encode(), headers=headers)
    assert got.body == counted(4, ignored=1)
    got = gate.send("POST", LOGS, "\r\n".join(lines).encode(), headers=headers)
    assert got.body == counted(0, 4, ignored=1)
    assert used(acme) == {"requests": 4}


def test_a_line_over_several_lines_and_lines_in_an_array(gate: GateProcess, acme: Customer) -> None:
    line = now_in(samples.NGINX)
    assert gate.send("POST", LOGS, json.dumps(line, indent=2).encode()).body == counted(1)
    assert gate.send("POST", LOGS, [line, line | {"request_id": "b"}]).body == counted(1, 1)
    assert used(acme) == {"requests": 2}


def test_a_line_that_is_no_json_is_no_fault_of_the_others(
    gate: GateProcess, acme: Customer
) -> None:
    good = json.dumps(now_in(samples.NGINX))
    other = json.dumps(now_in(samples.NGINX) | {"request_id": "other"})
    got = gate.send("POST", LOGS, f'{good}\n{{"request_id": "torn", "cust\n{other}'.encode())
    assert got.body["accepted"] == 2
    assert [(each["index"], each["code"]) for each in got.body["rejected"]] == [
        (1, "body_malformed")
    ]


def test_every_item_has_its_own_fate(gate: GateProcess, acme: Customer) -> None:
    nameless = {name: value for name, value in litellm().items() if name != "litellm_call_id"}
    wrong: dict[str, Any] = {
        "parameter_missing": nameless,
        "customer_unknown": litellm(
            litellm_call_id="b",
            metadata=samples.LITELLM["metadata"] | {"user_api_key_team_id": "x"},
        ),
        "parameter_invalid": litellm(litellm_call_id="c" * 256),
        "time_out_of_range": litellm(litellm_call_id="d", endTime=1_000_000_000),
        "key_malformed": litellm(
            litellm_call_id="e",
            metadata=samples.LITELLM["metadata"] | {"user_api_key_hash": "fb_key_typo"},
        ),
    }
    batch: list[Any] = [litellm(litellm_call_id="good-1"), *wrong.values(), 7]
    got = gate.send("POST", LITELLM, [*batch, litellm(litellm_call_id="good-2")])

    assert (got.status, got.body["accepted"]) == (200, 2)
    rejected = {each["index"]: each["code"] for each in got.body["rejected"]}
    assert [rejected[place] for place in range(1, 7)] == [*wrong, "parameter_invalid"]
    assert got.body["rejected"][0]["param"] == "litellm_call_id"
    assert [each["id"] for each in got.body["rejected"]][1:5] == ["b", "c" * 255, "d", "e"]
    assert used(acme)["tokens"] == 3_000


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "code"),
    [
        (LITELLM, b"7", "application/json", 400, "envelope_malformed"),
        (LITELLM, b"", "application/json", 400, "envelope_malformed"),
        (LITELLM, b"[{]", "application/json", 400, "body_malformed"),
        (LITELLM, b"{}", "application/x-ndjson", 415, "media_type_unsupported"),
        (LITELLM, b"[" * 5_000 + b"]" * 5_000, "application/json", 400, "body_malformed"),
        (LITELLM, b"[" + b"{}," * 5_000 + b"{}]", "application/json", 422, "too_many_items"),
        (LOGS, b"{}\n" * 5_001, "application/x-ndjson", 422, "too_many_items"),
        (LOGS, b"{}", "application/xml", 415, "media_type_unsupported"),
        ("/api/v1/events/batch", b"[]", "application/json", 400, "body_malformed"),
        ("/api/v1/events/batch", b"{", "application/json", 400, "body_malformed"),
        ("/api/v1/events/batch", b'{"events": 7}', "application/json", 400, "envelope_malformed"),
        ("/api/v1/events/batch", b"{}", "text/xml", 415, "media_type_unsupported"),
        ("/api/v1/events", b'{"event": {}', "application/json", 400, "body_malformed"),
        ("/api/v1/ingest/nobody", b"{}", "application/json", 404, "not_found"),
    ],
)
def test_what_is_no_envelope_is_refused_whole(
    gate: GateProcess, acme: Customer, path: str, body: bytes, kind: str, status: int, code: str
) -> None:
    got = gate.send("POST", path, body, headers={"content-type": kind})
    assert (got.status, got.body["code"]) == (status, code)
    assert not UsageEvent.objects.exists()


@pytest.mark.parametrize("path", [LITELLM, APIPARK, LOGS])
def test_shapes_are_posted_by_gateways(gate: GateProcess, acme: Customer, path: str) -> None:
    assert gate.send("GET", path).body["code"] == "method_not_allowed"
    for key, code in (
        ("", "key_missing"),
        ("fb_gw_typo", "key_malformed"),
        (make_api_key(acme), "wrong_kind_of_key"),
    ):
        got = gate.send("POST", path, litellm(), key=key)
        assert (got.status, got.body["code"]) == (403 if "kind" in code else 401, code)
    assert used(acme) == {}


def report(world: World, *events: Any) -> Got:
    return world.gate.send("POST", "/api/v1/events", list(events))


def event(world: World, id_: str, **fields: Any) -> dict[str, Any]:
    given = {
        "specversion": "1.0",
        "id": id_,
        "source": "app",
        "type": "api.call",
        "subject": world.customer.public_id,
    }
    return given | fields


def test_names_of_opentelemetry_count_under_ours(gate: GateProcess, acme: Customer) -> None:
    data = {
        "gen_ai.usage.input_tokens": 1_200,
        "gen_ai.usage.output_tokens": 300,
        "gen_ai.usage.cache_read.input_tokens": 1_000,
        "gen_ai.request.model": "m-1",
    }
    body = {"id": "1", "source": "otel", "type": "llm.completion", "subject": "acme", "data": data}
    assert gate.send("POST", "/api/v1/events", [body]).body == counted(1)
    assert gate.send("POST", "/api/v1/events", body).body == counted(0, 1)
    assert used(acme) == {"tokens": 1_500, "cached": 1_000}
    properties = UsageEvent.objects.get().properties
    assert properties is not None
    assert (properties["model"], properties["input_tokens"]) == ("m-1", 200)
    assert properties["gen_ai.request.model"] == "m-1"
    bare = body | {"id": "2", "data": {"quantity": 3, "note": {"llm.x": 1}}}
    assert gate.send("POST", "/api/v1/events", bare).body == counted(1)


def test_an_event_that_the_database_refuses_fails_alone(world: World) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE metering_usageevent ADD CONSTRAINT poison CHECK (external_id <> 'poison')"
        )
    try:
        batch = [event(world, f"e{n}") for n in range(20)]
        got = report(world, *batch[:7], event(world, "poison"), *batch[7:])
        again = report(world, *batch)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE metering_usageevent DROP CONSTRAINT poison")

    assert (got.status, got.body["accepted"]) == (200, 20)
    assert [(each["id"], each["code"]) for each in got.body["rejected"]] == [
        ("poison", "internal_error")
    ]
    assert again.body == counted(0, 20)
    assert world.balance(world.calls) == (20, 0)


def test_an_item_in_no_alphabet_or_too_deep_touches_no_other(world: World) -> None:
    good = [json.dumps(event(world, name)).encode() for name in ("a", "b")]
    nul = json.dumps(event(world, "nul", data={"x": "\x00"})).encode()
    torn = json.dumps(event(world, "torn")).encode().replace(b"torn", b"\xff\xfe")
    deep = json.dumps(event(world, "deep", data={"x": 7})).encode()
    deep = deep.replace(b"7", b"[" * 900 + b"]" * 900)
    body = b"[" + b",".join([good[0], nul, torn, deep, good[1]]) + b"]"

    got = world.gate.send("POST", "/api/v1/events", body)

    assert got.status == 200
    refused = {each["index"] for each in got.body["rejected"]}
    assert {1, 2} <= refused <= {1, 2, 3}
    assert got.body["accepted"] == 5 - len(refused)
    assert world.balance(world.calls) == (5 - len(refused), 0)


def test_a_line_with_half_a_character_touches_no_other(gate: GateProcess, acme: Customer) -> None:
    good = json.dumps(now_in(samples.NGINX) | {"request_id": "good"})
    half = good.replace('"good"', '"\\udc80"')
    wrapped = json.dumps({"log": half})

    got = gate.send("POST", LOGS, "\n".join([good, half, wrapped]).encode())

    assert (got.status, got.body["accepted"]) == (200, 1)
    assert {each["index"] for each in got.body["rejected"]} == {1, 2}
    assert used(acme) == {"requests": 1}
