"""Usage and entitlements over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from accounts.models import Customer
from metering.operations.defining import change_meter
from metering.operations.entitling import Right, StandingTerms, entitle
from tests.factories.metering import (
    make_customer,
    make_entitlement,
    make_meter,
    report,
)
from tests.factories.usage import count_on
from tests.metering.api.calls import as_customer, get

pytestmark = pytest.mark.django_db
HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def test_usage_by_bucket_and_group(operator: Client, customer: Customer) -> None:
    meter = make_meter(dimensions=["model"])
    for hours, model in ((0, "a"), (0, "b"), (1, "a"), (50, "a")):
        at = HOUR - timedelta(hours=hours)
        report(customer, meter, 10, at=at, properties={"model": model})
    span = {
        "from": (HOUR - timedelta(hours=2)).isoformat().replace("+00:00", "Z"),
        "to": (HOUR + timedelta(minutes=30)).isoformat().replace("+00:00", "Z"),
    }
    asked = {"meter": meter.key, "bucket": "hour", "group_by": "model", **span}
    answer = get(operator, "/usage", customer="acme", **asked)
    assert answer.status_code == 200, answer.content
    points = answer.json()["data"]
    found = [(each["start_at"], each["group"], each["quantity"]) for each in points]
    now, before = ((HOUR - timedelta(hours=n)).isoformat().replace("+00:00", "Z") for n in (0, 1))
    assert found == [
        (before, {"model": "a"}, 10),
        (now, {"model": "a"}, 10),
        (now, {"model": "b"}, 10),
    ]
    assert get(as_customer(customer), "/me/usage", **asked).json() == answer.json()
    mine = get(as_customer(make_customer()), "/me/usage", **asked).json()
    assert mine == {"data": []}


def test_usage_is_grouped_by_a_dimension_of_any_version(
    operator: Client, customer: Customer
) -> None:
    meter = make_meter(dimensions=["model"])
    now = datetime.now(UTC)
    for dimensions, ago in ((["model", "region"], 30), (["team"], 10)):
        change_meter(
            meter.id, dimensions=dimensions, ahead=timedelta(0), actor="opk_1",
            now=now - timedelta(seconds=ago),
        )  # fmt: skip
    said = {"model": "m", "region": "eu", "team": "t"}
    for ago in (40, 20, 1):
        count_on(customer, meter, 10, at=now - timedelta(seconds=ago), properties=said)
    span = {"from": now - timedelta(days=1), "to": now}
    asked = {"meter": meter.key, **{name: f"{at:%FT%T.%f}Z" for name, at in span.items()}}
    found = {}
    for name in ("model", "region", "team"):
        answer = get(operator, "/usage", customer="acme", group_by=name, **asked)
        assert answer.status_code == 200, answer.content
        mine = get(as_customer(customer), "/me/usage", group_by=name, **asked)
        assert mine.json() == answer.json()
        points = answer.json()["data"]
        found[name] = {each["group"].get(name): each["quantity"] for each in points}
    assert found == {
        "model": {"m": 20, None: 10},
        "region": {"eu": 10, None: 20},
        "team": {"t": 10, None: 20},
    }
    refused = get(operator, "/usage", customer="acme", group_by="user", **asked)
    assert (refused.status_code, refused.json()["param"]) == (422, "group_by")
    assert "it has: model, region, team." in refused.content.decode()


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ({}, "parameter_missing", "meter"),
        ({"meter": "none"}, "meter_unknown", "meter"),
        ({"meter": "known", "bucket": "year"}, "parameter_invalid", "bucket"),
        ({"meter": "known", "group_by": "model"}, "parameter_invalid", "group_by"),
        ({"meter": "known", "from": "yesterday"}, "parameter_invalid", "from"),
        (
            {"meter": "known", "from": "2026-01-02T00:00:00Z", "to": "2026-01-02T00:00:00Z"},
            "parameter_invalid",
            "to",
        ),
        (
            {"meter": "known", "from": "2020-01-01T00:00:00Z", "bucket": "hour"},
            "parameter_invalid",
            "from",
        ),
        ({"meter": "known", "customer": "acme"}, "parameter_unknown", "customer"),
    ],
)
def test_usage_that_cannot_be_asked_is_refused_by_name(
    customer: Customer, query: dict[str, str], code: str, param: str
) -> None:
    make_meter(key="known")
    answer = get(as_customer(customer), "/me/usage", **query)
    assert answer.status_code == 422, answer.content
    assert (answer.json()["code"], answer.json()["param"]) == (code, param)


def test_entitlements_with_balances(operator: Client, customer: Customer) -> None:
    meter = make_meter(key="api.calls", unit="call")
    make_entitlement(customer, meter, included=100)
    make_entitlement(customer, meter, window="hour", included=10, over="bill", overage_limit=5)
    report(customer, meter, 7, at=datetime.now(UTC))
    asked_at = datetime.now(UTC)
    answer = get(operator, "/customers/acme/entitlements")
    assert answer.status_code == 200, answer.content
    body = answer.json()
    assert (body["customer"], body["plan"], body["deny_code"]) == (customer.public_id, "", None)
    month, hour = body["balances"]
    assert (month["window"], month["granted"], month["used"], month["remaining"]) == (
        "month",
        100,
        7,
        93,
    )
    assert (month["overage_limit"], hour["overage_limit"]) == (0, 5)
    resets_at = datetime.fromisoformat(hour["resets_at"])
    assert timedelta(0) < resets_at - asked_at <= timedelta(hours=1, minutes=1)
    assert resets_at.minute == 0
    assert get(as_customer(customer), "/me/entitlements").json()["balances"] == body["balances"]
    assert get(operator, "/customers/nobody/entitlements").status_code == 404


def test_entitlements_say_what_is_denied_and_which_features_stand(
    operator: Client, customer: Customer
) -> None:
    now = datetime.now(UTC)
    begin = now - timedelta(days=1)
    entitle(
        customer.id,
        rights=[
            Right(kind="boolean", feature="sso", anchor_at=begin, starts_at=begin),
            Right(kind="static", feature="region", value="eu", anchor_at=begin, starts_at=begin),
            Right(
                kind="boolean", feature="soon", anchor_at=begin, starts_at=now.replace(year=9000)
            ),
        ],
        standing=StandingTerms("pro", "Pro", "payment_failed", begin, "https://pay.example"),
        source="sub_1",
        now=now,
    )
    body = get(operator, "/customers/acme/entitlements").json()
    assert (body["plan"], body["deny_code"]) == ("pro", "payment_failed")
    assert [(each["feature"], each["type"], each["value"]) for each in body["features"]] == [
        ("region", "static", "eu"),
        ("sso", "boolean", None),
    ]
