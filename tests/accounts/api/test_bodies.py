"""Bodies that cannot be read, and what is said about them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.exceptions import APIException

from accounts.api.parsing import BODY_MAX, parse_json
from accounts.models import Customer
from tests.factories.accounts import Api, operator


@pytest.fixture
def api(db: None) -> Api:
    return operator()


@pytest.mark.parametrize(
    "raw",
    [
        b"{", b"", b"null", b"[]", b'"x"', b"5", b"\xff\xfe", b'{"name": "\xc3\x28"}',
        b'{"name": NaN}', b'{"name": Infinity}', b'{"name": "a", "name": "b"}',
        b"[" * 100_000, b'{"a":' * 5_000, b'{"name": ' + b"9" * 5_000 + b"}", b"{'name': 'a'}",
        b'{"name": "a"} x', b"\xef\xbb\xbf{}",
    ],
)  # fmt: skip
def test_what_is_not_a_json_object_is_refused(api: Api, raw: bytes) -> None:
    answer = api.post("customers", raw)
    # An empty body is an empty object, which lacks a name.
    expected = (422, "parameter_missing") if raw == b"" else (400, "body_malformed")
    assert (answer.status_code, answer.json()["code"]) == expected, answer.content
    assert not Customer.objects.exists()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "text/json"])
def test_other_media_types_are_refused(api: Api, kind: str) -> None:
    answer = api.post("customers", b'{"name": "a"}', Content_Type=kind)
    assert (answer.status_code, answer.json()["code"]) == (415, "media_type_unsupported")


@pytest.mark.parametrize("size", [BODY_MAX + 1, 10 * BODY_MAX])
def test_large_bodies_are_refused(api: Api, size: int) -> None:
    answer = api.post("customers", b'{"name": "' + b"a" * size + b'"}')
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert not Customer.objects.exists()


def test_a_body_of_the_very_limit_is_read(api: Api) -> None:
    frame = len(json.dumps({"name": "a", "x": ""}))
    raw = json.dumps({"name": "a", "x": "x" * (BODY_MAX - frame)}).encode()
    assert len(raw) == BODY_MAX
    answer = api.post("customers", raw)
    assert (answer.status_code, answer.json()["code"]) == (422, "parameter_unknown")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"), ({"limit": "101"}, "limit"), ({"limit": "x"}, "limit"),
        ({"limit": "²"}, "limit"), ({"limit": ""}, "limit"), ({"cursor": "x"}, "cursor"),
        ({"cursor": "bnVsbA"}, "cursor"), ({"cursor": "WzEsMl0"}, "cursor"),
        ({"cursor": "WyJ4Il0"}, "cursor"), ({"cursor": "ä"}, "cursor"),
        ({"cursor": "WzEwMDAwMDAwMDAwMDAwMDAwMDAwMDAwXQ"}, "cursor"), ({"cursor": ""}, "cursor"),
        ({"nam": "x"}, "nam"), ({"email": "\x00"}, "email"),
    ],
)  # fmt: skip
def test_odd_queries_are_named(api: Api, query: dict[str, str], param: str) -> None:
    answer = api.get("customers", **query)
    assert (answer.status_code, answer.json().get("param")) == (422, param), answer.content


def test_a_parameter_given_twice_is_refused(api: Api) -> None:
    answer = api.call("GET", "customers?email=a&email=b")
    assert (answer.status_code, answer.json()["param"]) == (422, "email")


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_reading_any_bytes_gives_a_value_or_a_problem(raw: bytes) -> None:
    try:
        value = parse_json(raw)
    except APIException:
        return
    assert json.loads(raw) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(json_values)
def test_every_value_without_nul_comes_through(value: object) -> None:
    text = json.dumps(value)
    if "\\u0000" in text:
        return
    assert parse_json(text.encode()) == value
