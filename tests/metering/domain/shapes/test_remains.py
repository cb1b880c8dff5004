"""metering.domain.shapes.remains: what is kept of items that could not be translated."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.shapes.reading import Options, ShapeInvalid
from metering.domain.shapes.remains import TRANSLATORS, remains, without_keys
from tests.metering.domain.shapes import samples
from tests.metering.domain.shapes.hostile import altered, anything

NONE = Options()
ITEMS: dict[str, list[dict[str, Any]]] = {
    "lago": [samples.LAGO],
    "litellm": [samples.LITELLM],
    "apipark": [samples.APIPARK],
    "access-log": [samples.NGINX, samples.CADDY, samples.ENVOY, samples.TRAEFIK],
}
KEY = "fb_key_" + "a" * 38


def outcome(shape: str, item: dict[str, Any], options: Options) -> object:
    """What the translator makes of an item: the event, nothing, or why it refuses."""
    try:
        return TRANSLATORS[shape](item, options)
    except ShapeInvalid as error:
        return (error.code, error.param, error.detail)


@pytest.mark.parametrize("shape", ITEMS)
@given(st.data())
def test_what_remains_translates_as_the_whole_did(shape: str, data: st.DataObject) -> None:
    item = data.draw(altered(ITEMS[shape]))
    who = st.sampled_from([None, "team", "end_user", "application", "request", "status"])
    options = Options(customer=data.draw(who))
    left = remains(shape, item, options)
    assert outcome(shape, left.item, options) == outcome(shape, item, options)
    again = remains(shape, left.item, options)
    assert (again.item, again.subject) == (left.item, left.subject)


@pytest.mark.parametrize("shape", ITEMS)
@given(st.dictionaries(st.text(max_size=12), anything, max_size=6))
def test_any_object_at_all_is_no_surprise(shape: str, item: dict[str, Any]) -> None:
    left = remains(shape, item, NONE)
    assert outcome(shape, left.item, NONE) == outcome(shape, item, NONE)


# Where an object is read, by shape: what loggers write there as text is of any content.
OBJECTS: dict[str, list[tuple[str, ...]]] = {
    "litellm": [
        ("metadata",),
        ("error_information",),
        ("metadata", "user_api_key_auth_metadata"),
        ("metadata", "usage_object"),
        ("metadata", "usage_object", "prompt_tokens_details"),
        ("metadata", "usage_object", "completion_tokens_details"),
        ("metadata", "usage_object", "prompt_tokens_details", "cached_tokens_details"),
    ],
    "access-log": [
        ("request",), ("properties",), ("resp_headers",), ("request", "properties"),
        ("request", "resp_headers"),
    ],
}  # fmt: skip
texts = st.sampled_from(
    ["GET /a?token=secret HTTP/1.1", json.dumps({"prompt": "a secret"}), ["a secret"], "", []]
)


@pytest.mark.parametrize("shape", OBJECTS)
@given(st.data())
def test_a_text_in_the_place_of_an_object_is_not_kept(shape: str, data: st.DataObject) -> None:
    item = copy.deepcopy(data.draw(st.sampled_from(ITEMS[shape])))
    for name in ("messages", "response"):
        item.pop(name, None)
    for way in data.draw(st.lists(st.sampled_from(OBJECTS[shape]), min_size=1, max_size=3)):
        inner = item
        for name in way[:-1]:
            if not isinstance(inner.get(name), dict):
                inner[name] = {}
            inner = inner[name]
        inner[way[-1]] = data.draw(texts)
    left = remains(shape, item, NONE)
    assert "secret" not in str(left.item)
    assert outcome(shape, left.item, NONE) == outcome(shape, item, NONE)
    again = remains(shape, left.item, NONE)
    assert (again.item, again.subject) == (left.item, left.subject)


def test_a_text_that_names_the_customer_is_read_where_it_is_asked_for() -> None:
    for name in ("request", "properties"):
        options = Options(customer=name)
        item = samples.NGINX | {name: "acme"}
        left = remains("access-log", item, options)
        assert left.subject == "acme"
        assert outcome("access-log", left.item, options) == outcome("access-log", item, options)


def test_nobodys_secret_is_kept() -> None:
    nginx = samples.NGINX | {"request_uri": "/a?token=secret", "http_authorization": "secret"}
    caddy = samples.CADDY
    caddy = caddy | {"request": caddy["request"] | {"uri": "/a?secret", "headers": {"A": "secret"}}}
    failed = samples.LITELLM | {"error_information": {"error_message": "what said 'a secret'"}}
    wrapped = {"log": '{"customer": "acme", "secret": "another"}'}
    for shape, item in (
        ("litellm", failed),
        ("apipark", samples.APIPARK),
        ("access-log", nginx),
        ("access-log", caddy),
        ("access-log", wrapped),
    ):
        left = remains(shape, item, NONE)
        assert left.subject == "acme"
        assert "secret" not in str(left.item)
        assert "another" not in str(left.item)


def test_who_the_customer_is_is_told_where_the_item_says_it() -> None:
    for shape, items in ITEMS.items():
        assert {remains(shape, item, NONE).subject for item in items} == {"acme"}
        assert remains(shape, {}, NONE).subject == ""
    metadata = {"user_api_key_hash": KEY}
    assert remains("litellm", {"metadata": metadata}, NONE).subject == KEY
    asked = Options(customer="team")
    assert remains("litellm", samples.LITELLM, asked).subject == "acme"
    named = Options(customer="tenant")
    for shape in ("apipark", "access-log"):
        assert remains(shape, {"tenant": "acme"}, named).subject == "acme"


def test_a_key_is_kept_nowhere() -> None:
    metadata = {"user_api_key_hash": KEY}
    assert KEY not in str(remains("litellm", {"metadata": metadata}, NONE).item)
    given = {"properties": {KEY: [f"Bearer {KEY}", 7, None]}, "code": KEY}
    left = remains("lago", given, NONE).item
    assert left == {
        "properties": {"fb_key_…": ["Bearer fb_key_…", 7, None]},
        "code": "fb_key_…",
    }
    assert without_keys("fb_gw_abc and fb_op_x") == "fb_gw_… and fb_op_…"


def test_a_line_keeps_its_own_properties_and_what_its_duration_is_of() -> None:
    caddy = samples.CADDY
    line = caddy | {
        "properties": {"tenant": "t1", "deep": {"a": "secret"}},
        "request": caddy["request"] | {"properties": "none"},
    }
    left = remains("access-log", line, NONE).item
    assert left["properties"] == {"tenant": "t1", "deep": ["…"]}
    assert (left["resp_headers"], left["request"]["properties"]) == ({}, {})
    assert outcome("access-log", left, NONE) == outcome("access-log", line, NONE)
    nowhen = {"customer": "acme"}
    assert remains("access-log", nowhen, NONE).item == nowhen


def test_a_line_that_is_told_apart_by_all_it_says_keeps_its_id() -> None:
    line = {"customer": "acme", "time": "2026-11-22T07:42:12.925+00:00", "agent": "curl"}
    whole = TRANSLATORS["access-log"](line, NONE)
    left = remains("access-log", line, NONE).item
    assert "agent" not in left
    assert TRANSLATORS["access-log"](left, NONE) == whole
