"""Price tables over HTTP: make, draft, compare, activate, and meters of costs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from metering.models import Meter, PriceTable, PriceTableVersion, TokenPrice
from tests.factories.accounts import an_operator_key, bearer
from tests.metering.api.calls import get, post

pytestmark = pytest.mark.django_db
PRICES = [
    {"model": "m-1", "input": "0.0000025", "output": "0.00001"},
    {"model": "*", "input": "0.000000000000000001"},
]


@pytest.fixture
def table(operator: Client) -> dict[str, Any]:
    """A price table `llm` with a drafted version 1."""
    answer = post(operator, "/price-tables", {"key": "llm", "name": "What models cost"})
    assert answer.status_code == 201, answer.content
    drafted = post(operator, "/price-tables/llm/versions", {"source": "hand", "prices": PRICES})
    assert drafted.status_code == 201, drafted.content
    made: dict[str, Any] = answer.json()
    return made


def test_a_table_is_made_drafted_seen_and_listed(operator: Client, table: dict[str, Any]) -> None:
    assert table["id"].startswith("ptab_")
    assert (table["key"], table["currency"]) == ("llm", "usd")
    assert get(operator, "/price-tables/llm").json() == table
    assert get(operator, "/price-tables").json()["data"] == [table]
    (version,) = get(operator, "/price-tables/llm/versions").json()["data"]
    assert (version["number"], version["status"], version["source"]) == (1, "draft", "hand")
    assert len(version["sha256"]) == 64
    assert version["effective_at"] is None
    assert get(operator, "/price-tables/llm/versions/1/prices").json()["data"] == [
        {"model": "*", "token_class": "input", "price": "0.000000000000000001"},
        {"model": "m-1", "token_class": "input", "price": "0.0000025"},
        {"model": "m-1", "token_class": "output", "price": "0.00001"},
    ]


def test_a_version_is_compared_activated_and_followed(
    operator: Client, table: dict[str, Any]
) -> None:
    first = get(operator, "/price-tables/llm/versions/1/diff").json()
    assert (first["version"], first["compared_with"], len(first["added"])) == (1, None, 3)
    activated = post(operator, "/price-tables/llm/versions/1/activate", {})
    assert activated.status_code == 200, activated.content
    assert activated.json()["status"] == "active"
    assert activated.json()["effective_at"] == "1970-01-01T00:00:00Z"
    assert post(operator, "/price-tables/llm/versions/1/activate", {}).json() == activated.json()

    post(
        operator,
        "/price-tables/llm/versions",
        {"prices": [{"model": "m-1", "input": "0.000002", "reasoning": "0.1"}]},
    )
    diff = get(operator, "/price-tables/llm/versions/2/diff").json()
    assert (diff["version"], diff["compared_with"]) == (2, 1)
    assert [each["class"] for each in diff["added"]] == ["reasoning"]
    assert diff["changed"] == [
        {
            "model": "m-1",
            "class": "input",
            "before": "0.0000025",
            "after": "0.000002",
            "percent": "-20.00",
        }
    ]
    assert [each["model"] for each in diff["removed"]] == ["*", "m-1"]
    itself = get(operator, "/price-tables/llm/versions/2/diff", base="2").json()
    assert (itself["added"], itself["changed"], itself["removed"]) == ([], [], [])

    at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    later = post(operator, "/price-tables/llm/versions/2/activate", {"effective_at": at}).json()
    assert later["effective_at"] == at.replace("+00:00", "Z")
    same = get(operator, "/price-tables/llm/versions/2/diff").json()
    assert (same["compared_with"], same["changed"]) == (1, diff["changed"])
    moved = post(operator, "/price-tables/llm/versions/2/activate", {"effective_at": later_by(1)})
    assert (moved.status_code, moved.json()["code"]) == (409, "conflict")


def later_by(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"prices": []}, "parameter_invalid", "prices"),
        ({}, "parameter_missing", "prices"),
        ({"prices": [{"model": "a"}]}, "parameter_invalid", "prices"),
        ({"prices": [{"input": "1"}]}, "parameter_missing", "prices[0].model"),
        ({"prices": [{"model": "a", "input": 0.1}]}, "parameter_invalid", "prices[0].input"),
        ({"prices": [{"model": "a", "input": "1e-6"}]}, "parameter_invalid", "prices[0].input"),
        ({"prices": [{"model": "a", "input": "-1"}]}, "parameter_invalid", "prices[0].input"),
        ({"prices": [{"model": "a", "video": "1"}]}, "parameter_unknown", "prices[0].video"),
        ({"prices": [{"model": "a*b", "input": "1"}]}, "parameter_invalid", "prices.model"),
        (
            {"prices": [{"model": "a", "input": "1"}, {"model": "a", "input": "2"}]},
            "parameter_invalid",
            "prices",
        ),
    ],
)
def test_prices_that_cannot_be_are_refused_by_name(
    operator: Client, table: dict[str, Any], body: dict[str, Any], code: str, param: str
) -> None:
    answer = post(operator, "/price-tables/llm/versions", body)
    assert answer.status_code == 422, answer.content
    assert (answer.json()["code"], answer.json()["param"]) == (code, param)
    assert (PriceTableVersion.objects.count(), TokenPrice.objects.count()) == (1, 3)


def test_tables_and_times_that_cannot_be_are_refused(
    operator: Client, table: dict[str, Any]
) -> None:
    taken = post(operator, "/price-tables", {"key": "llm"})
    assert (taken.status_code, taken.json()["code"]) == (409, "conflict")
    wrong = post(operator, "/price-tables", {"key": "eu", "currency": "EUR"})
    assert (wrong.status_code, wrong.json()["param"]) == (422, "currency")
    assert PriceTable.objects.count() == 1
    post(operator, "/price-tables/llm/versions/1/activate", {})
    post(operator, "/price-tables/llm/versions", {"prices": [{"model": "*", "input": "1"}]})
    early = post(operator, "/price-tables/llm/versions/2/activate", {"effective_at": later_by(-1)})
    assert (early.status_code, early.json()["param"]) == (422, "effective_at")
    assert PriceTableVersion.objects.get(number=2).effective_at is None


@pytest.mark.parametrize(
    "path",
    [
        "/price-tables/none",
        "/price-tables/none/versions",
        "/price-tables/llm/versions/9/prices",
        "/price-tables/llm/versions/9/diff",
        "/price-tables/llm/versions/0/diff",
        "/price-tables/llm/versions/first/diff",
        "/price-tables/llm/versions/99999999999999999999/diff",
        "/price-tables/llm/versions/1/diff?base=7",
    ],
)
def test_what_is_not_there_is_not_found(operator: Client, table: dict[str, Any], path: str) -> None:
    assert get(operator, path).status_code == 404
    if "diff" in path and "?" not in path:
        activate = path.replace("/diff", "/activate")
        assert post(operator, activate, {}).status_code == 404


def test_a_meter_of_costs_is_defined_by_its_table(operator: Client, table: dict[str, Any]) -> None:
    body = {
        "key": "llm.cost",
        "event_type": "llm.completion",
        "aggregation": "sum",
        "price_table": "llm",
    }
    made = post(operator, "/meters", body)
    assert made.status_code == 201, made.content
    found = made.json()
    assert (found["price_table"], found["property"]) == ("llm", "model")
    assert found["unit"] == "nano-usd"
    assert found["display"] == {"unit": "USD", "divisor": 1_000_000_000}
    for change, param in (
        ({"price_table": "none"}, "price_table"),
        ({"aggregation": "latest"}, "price_table"),
        ({"unit": "token"}, "unit"),
    ):
        answer = post(operator, "/meters", {**body, "key": "other", **change})
        assert (answer.status_code, answer.json()["param"]) == (422, param)
    assert Meter.objects.count() == 1


def test_reading_needs_one_scope_and_writing_another(table: dict[str, Any]) -> None:
    client = Client(headers=bearer(an_operator_key("meters:read")[1]))
    assert get(client, "/price-tables/llm/versions/1/diff").status_code == 200
    for path, body in (
        ("/price-tables", {"key": "b"}),
        ("/price-tables/llm/versions", {"prices": PRICES}),
        ("/price-tables/llm/versions/1/activate", {}),
    ):
        answer = post(client, path, body)
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
    assert PriceTableVersion.objects.get().status == "draft"
