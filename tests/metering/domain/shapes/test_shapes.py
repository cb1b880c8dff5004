"""metering.domain.shapes: what the translators make of real, strange and hostile items."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.prices import TOKEN_CLASSES
from metering.domain.shapes import access_log, apipark, lago, litellm
from metering.domain.shapes.reading import Options, ShapeInvalid, Told
from tests.metering.domain.shapes import samples
from tests.metering.domain.shapes.hostile import altered, anything

Translate = Callable[[Any, Options], Told | None]
THEN = datetime(2026, 11, 22, 7, 42, 12, 925_000, tzinfo=UTC)
NONE = Options()
SHAPES: dict[str, tuple[Translate, list[dict[str, Any]]]] = {
    "lago": (lago.translate, [samples.LAGO]),
    "litellm": (litellm.translate, [samples.LITELLM]),
    "apipark": (apipark.translate, [samples.APIPARK]),
    "access_log": (
        access_log.translate,
        [samples.NGINX, samples.CADDY, samples.ENVOY, samples.TRAEFIK],
    ),
}


def refused(translate: Translate, item: dict[str, Any], options: Options = NONE) -> ShapeInvalid:
    with pytest.raises(ShapeInvalid) as caught:
        translate(item, options)
    return caught.value


@pytest.mark.parametrize("shape", SHAPES)
@given(st.data())
def test_whatever_an_item_holds_it_is_told_left_or_refused(shape: str, data: st.DataObject) -> None:
    translate, items = SHAPES[shape]
    item = data.draw(altered(items))
    with contextlib.suppress(ShapeInvalid):
        told = translate(item, NONE)
        assert told == translate(dict(item), NONE)  # a repeat is the same event
        if told is not None:
            assert told.id
            assert told.subject not in ("", "-")
            assert told.occurred_at is None or told.occurred_at.tzinfo is not None


@pytest.mark.parametrize("shape", SHAPES)
@given(st.dictionaries(st.text(max_size=12), anything, max_size=6))
def test_any_object_at_all_is_no_surprise(shape: str, item: dict[str, Any]) -> None:
    translate, _ = SHAPES[shape]
    with contextlib.suppress(ShapeInvalid):
        translate(item, NONE)


def test_lago_as_apisix_sends_it() -> None:
    assert lago.translate(samples.LAGO, NONE) == Told(
        id="req_6f1",
        subject="acme",
        type="chat.call",
        occurred_at=THEN.replace(microsecond=925_000),
        data={"status": 200, "tokens": 1500, "model": "m-1", "price": "0.5"},
    )


def test_lago_names_the_customer_or_the_subscription() -> None:
    both = samples.LAGO | {"external_customer_id": "cus", "precise_total_amount_cents": "1.25"}
    told = lago.translate(both, Options(type="other"))
    assert (told.subject, told.type) == ("cus", "other")
    assert told.data["precise_total_amount_cents"] == "1.25"
    bare = {name: samples.LAGO[name] for name in ("transaction_id", "external_subscription_id")}
    told = lago.translate(bare | {"code": "c", "properties": None}, NONE)
    assert (told.occurred_at, told.data) == (None, {})


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"transaction_id": None}, "transaction_id"),
        ({"external_subscription_id": ""}, "external_customer_id"),
        ({"code": ""}, "code"),
        ({"properties": [1]}, "properties"),
        ({"timestamp": "soon"}, "timestamp"),
        ({"timestamp": True}, "timestamp"),
        ({"timestamp": [1]}, "timestamp"),
        ({"timestamp": -1}, "timestamp"),
        ({"timestamp": 10**21}, "timestamp"),
        ({"timestamp": "2026-11-22T07:42:12"}, "timestamp"),
        ({"timestamp": "0001-01-01T00:00:00+14:00"}, "timestamp"),
        ({"timestamp": "22/Nov/2026:07:42:12"}, "timestamp"),
    ],
)
def test_lago_events_that_cannot_be_counted(change: dict[str, Any], param: str) -> None:
    assert refused(lago.translate, samples.LAGO | change).param == param


@pytest.mark.parametrize(
    "written",
    [
        1_795_333_332_925,
        "1795333332.925",
        "1795333332925000",
        1_795_333_332_925_000_000,
        "2026-11-22T08:42:12.925+01:00",
        1_795_333_332_925.0,
    ],
)
def test_a_moment_in_every_way_it_is_written(written: object) -> None:
    told = lago.translate(samples.LAGO | {"timestamp": written}, NONE)
    assert told.occurred_at == THEN


def test_a_moment_as_logs_write_it() -> None:
    line = samples.NGINX | {"time": "22/Nov/2026:07:42:12 +0000"}
    told = access_log.translate(line, NONE)
    assert told is not None
    assert told.occurred_at == THEN.replace(microsecond=0)


def test_litellm_with_every_token_in_one_class() -> None:
    told = litellm.translate(samples.LITELLM, NONE)
    assert told == Told(
        id="5f3a2c1e-0000-4000-8000-000000000001",
        subject="acme",
        type="llm.completion",
        occurred_at=THEN,
        data={
            "model": "gpt-4o-mini",
            "model_group": "mini",
            "provider": "openai",
            "call_type": "acompletion",
            "status": "success",
            "stream": True,
            "trace_id": "trace-1",
            "input_tokens": 200,
            "cached_input_tokens": 1000,
            "cache_write_tokens": 0,
            "audio_input_tokens": 0,
            "output_tokens": 100,
            "reasoning_tokens": 200,
            "audio_output_tokens": 0,
            "prompt_tokens": 1200,
            "completion_tokens": 300,
            "total_tokens": 1500,
            "failed": False,
            "aborted": False,
            "upstream_cost_usd": "0.000285",
            "duration_ms": 425,
        },
    )
    assert "secret" not in str(told)


def test_litellm_with_audio_in_both_directions() -> None:
    usage: dict[str, dict[str, Any]] = {
        "prompt_tokens_details": {"cached_tokens": 300, "audio_tokens": 400},
        "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 180},
    }
    data = litellm.translate(with_metadata(usage_object=usage), NONE).data
    tokens = {name: data[member] for name, member in TOKEN_CLASSES.items()}
    assert tokens == {
        "input": 500,
        "cached_input": 300,
        "cache_write": 0,
        "audio_input": 400,
        "output": 100,
        "reasoning": 20,
        "audio_output": 180,
    }
    assert (data["prompt_tokens"], data["completion_tokens"]) == (1_200, 300)
    usage["prompt_tokens_details"] |= {"cached_tokens_details": {"audio_tokens": 250}}
    data = litellm.translate(with_metadata(usage_object=usage), NONE).data
    assert [data[f"{name}_tokens"] for name in ("input", "cached_input", "audio_input")] == [
        750,
        300,
        150,
    ]


def with_metadata(**members: Any) -> dict[str, Any]:
    return samples.LITELLM | {"metadata": samples.LITELLM["metadata"] | members}


@pytest.mark.parametrize(
    ("item", "options", "subject"),
    [
        (with_metadata(user_api_key_org_id="the-org"), NONE, "the-org"),
        (with_metadata(user_api_key_team_id=None), NONE, "somebody"),
        (with_metadata(user_api_key_user_id="u", user_api_key_team_id=""), NONE, "u"),
        (with_metadata(user_api_key_hash="fb_key_1"), NONE, "fb_key_1"),
        (with_metadata(user_api_key_auth_metadata={"farebox_customer": "said"}), NONE, "said"),
        (samples.LITELLM, Options(customer="end_user"), "somebody"),
        (samples.LITELLM, Options(customer="alias"), "acme-production"),
        (
            with_metadata(user_api_key_end_user_id=None) | {"end_user": "eve"},
            Options(customer="end_user"),
            "eve",
        ),
        ({**samples.LITELLM, "metadata": None, "end_user": "eve"}, NONE, "eve"),
    ],
)
def test_who_the_customer_of_a_call_is(
    item: dict[str, Any], options: Options, subject: str
) -> None:
    assert litellm.translate(item, options).subject == subject


def test_calls_of_nobody_are_refused() -> None:
    assert refused(litellm.translate, samples.LITELLM | {"metadata": {}}).param == "metadata"
    asked = Options(customer="org")
    assert refused(litellm.translate, samples.LITELLM, asked).param == (
        "metadata.user_api_key_org_id"
    )
    assert refused(litellm.translate, samples.LITELLM, Options(customer="x")).param == "customer"
    nameless = {name: value for name, value in samples.LITELLM.items() if name != "litellm_call_id"}
    assert refused(litellm.translate, nameless).param == "litellm_call_id"


def test_a_stream_that_broke_off_is_flagged_and_counted() -> None:
    broken = litellm.translate(samples.LITELLM | {"status": "failure"}, NONE)
    assert broken.id.endswith(":failure:1795333332500000")  # others have the same call id
    assert (broken.data["failed"], broken.data["aborted"]) == (True, True)
    assert broken.data["total_tokens"] == 1500
    error = {"error_information": {"error_class": "ReadTimeout"}}
    timed_out = litellm.translate(samples.LITELLM | error, NONE)
    assert (timed_out.data["failed"], timed_out.data["aborted"]) == (False, True)
    plain = litellm.translate(samples.LITELLM | error | {"stream": False}, NONE)
    assert plain.data["aborted"] is False


def test_every_attempt_of_a_call_has_an_id_of_its_own() -> None:
    attempts: list[dict[str, Any]] = [
        {"status": "failure"},
        {"status": "failure", "startTime": 1_795_333_340.25},
        {"status": "failure", "startTime": None},
        {"status": "failure", "startTime": None, "endTime": None},
        {"status": "success", "startTime": 1_795_333_350},
    ]
    found = [litellm.translate(samples.LITELLM | each, NONE).id for each in attempts]
    call = samples.LITELLM["litellm_call_id"]
    assert found == [
        f"{call}:failure:1795333332500000",
        f"{call}:failure:1795333340250000",
        f"{call}:failure:1795333332925000",
        f"{call}:failure",
        call,
    ]
    again = attempts[0] | {"startTime": "2026-11-22T08:42:12.500+01:00"}
    assert litellm.translate(samples.LITELLM | again, NONE).id == found[0]


def test_the_attempt_that_succeeds_settles_the_hold_that_the_hook_took() -> None:
    held = with_metadata(user_api_key_auth_metadata={"farebox_hold": "hold_1"})
    assert litellm.translate(held, NONE).data["hold"] == "hold_1"
    failed = litellm.translate(held | {"status": "failure"}, NONE).data
    assert "hold" not in failed
    assert failed["total_tokens"] == 1_500  # counted under its own id
    client = with_metadata(requester_metadata={"farebox_hold": "hold_1"})
    assert "hold" not in litellm.translate(client, NONE).data


def test_anthropic_names_of_cached_tokens_and_calls_without_times() -> None:
    usage = {"cache_read_input_tokens": 7, "cache_creation_input_tokens": 5, "prompt_tokens": 20}
    item = with_metadata(usage_object=usage)
    del item["prompt_tokens"]
    told = litellm.translate(item | {"startTime": None, "response_cost": None}, NONE)
    assert (told.data["input_tokens"], told.data["cache_write_tokens"]) == (8, 5)
    assert "duration_ms" not in told.data
    assert "upstream_cost_usd" not in told.data


def test_apipark_as_its_formatter_writes_it() -> None:
    told = apipark.translate(samples.APIPARK, NONE)
    assert told is not None
    assert (told.id, told.subject, told.type) == ("b7e8a9", "acme", "llm.completion")
    assert told.occurred_at == THEN
    assert told.data["input_tokens"] == 90
    assert (told.data["status"], told.data["status_class"]) == (200, "2xx")
    assert told.data["duration_ms"] == 412
    assert "secret" not in str(told)


def test_apipark_calls_without_a_model_and_without_an_application() -> None:
    plain = samples.APIPARK | {"ai_model": "-", "request_time": "", "msec": "", "status": "-"}
    told = apipark.translate(plain, Options(customer="api"))
    assert told is not None
    assert (told.type, told.subject, told.occurred_at) == ("http.request", "api-7", None)
    assert "total_tokens" not in told.data
    assert apipark.translate(samples.APIPARK | {"application": "-"}, NONE) is None
    assert refused(apipark.translate, {"request_id": "1"}).param == "application"
    assert refused(apipark.translate, {"application": "1"}).param == "request_id"


@pytest.mark.parametrize("name", ["NGINX", "CADDY", "ENVOY", "TRAEFIK"])
def test_the_same_request_in_the_log_of_every_proxy(name: str) -> None:
    told = access_log.translate(getattr(samples, name), NONE)
    assert told is not None
    assert (told.subject, told.type) == ("acme", "http.request")
    assert told.occurred_at is not None
    assert told.occurred_at.replace(microsecond=0) == THEN.replace(microsecond=0)
    expected = {
        "method": "GET",
        "path": "/v1/things",
        "status": 200,
        "status_class": "2xx",
        "response_bytes": 265,
        "request_bytes": 196,
        "duration_ms": 12,
    }
    assert {name: told.data.get(name) for name in expected} == expected
    assert "secret" not in str(told)


def test_lines_of_nobody_are_left_and_lines_that_do_not_say_are_refused() -> None:
    for nobody in ("", "-", None):
        assert access_log.translate(samples.NGINX | {"customer": nobody}, NONE) is None
    unsaid = {name: value for name, value in samples.NGINX.items() if name != "customer"}
    assert refused(access_log.translate, unsaid).param == "customer"
    assert refused(access_log.translate, samples.NGINX, Options(customer="user")).param == "user"


def test_a_line_without_an_id_is_told_apart_by_all_it_says() -> None:
    first = access_log.translate(samples.TRAEFIK, NONE)
    other = access_log.translate(samples.TRAEFIK | {"ClientAddr": "127.0.0.1:51001"}, NONE)
    assert first is not None
    assert other is not None
    assert first.id != other.id
    coarse = {name: value for name, value in samples.NGINX.items() if name != "request_id"}
    assert refused(access_log.translate, coarse).param == "request_id"


def test_lines_in_the_wrapping_of_a_shipper() -> None:
    line = (
        '{"time": "2026-11-22T07:42:12Z", "id": "1", "customer": "acme", "hold": "hold_1", '
        '"llm_model": "m", "llm_prompt_tokens": "10", "llm_completion_tokens": "4", '
        '"properties": {"tenant": "t", "n": "3"}}'
    )
    told = access_log.translate({"log": line, "stream": "stdout"}, Options(type="chat"))
    assert told is not None
    assert (told.id, told.type, told.data["hold"]) == ("1", "chat", "hold_1")
    assert (told.data["model"], told.data["total_tokens"]) == ("m", 14)
    assert (told.data["tenant"], told.data["n"]) == ("t", 3)
    for no_line in ("{", "{}x", '"a"', "[{}]"):
        assert refused(access_log.translate, {"log": no_line}).param == "customer"
