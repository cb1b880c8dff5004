"""Whatever well-formed events, checks and holds say: no fault of ours, and nothing half kept."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.models import UsageEvent
from tests.metering.gate.books import broken
from tests.metering.gate.conftest import World
from tests.metering.gate.test_aggregations import KINDS, Meters, a_table, metered

__all__ = ["metered"]  # a fixture
pytestmark = pytest.mark.django_db(transaction=True)
fuzz = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
numbers = itertools.count()
texts = st.text(max_size=8) | st.sampled_from(["ada", "m-1", "\u2028", "\\u0000", "a" * 300])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-2, 10**15 + 1)
    | st.sampled_from([2**63, 2**64, 10**40, 1e308, 0.5, 1.0, "7", "0.000000001", " 7 "])
    | texts
)
deep = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(
    ["tokens", "model", "quantity", "size", "user", "hold", "input_tokens", "output_tokens",
     "total_tokens", "gen_ai.usage.input_tokens", "gen_ai.request.model"]
) | texts  # fmt: skip
data = st.none() | st.dictionaries(names, scalars | deep, max_size=5)
events = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from(["a", "b"]) | texts.filter(bool).map(lambda text: text[:255]),
            "type": st.sampled_from(["api.call", "llm.completion", "work.done", "work.done"]),
            "data": data,
            "minutes": st.none() | st.integers(-100_000, 10),
        }
    ),
    min_size=1,
    max_size=4,
)


@fuzz
@given(events, st.booleans())
def test_events_of_known_types_with_any_data(
    world: World, every_kind: None, sent: list[dict[str, Any]], named: bool
) -> None:
    before, stored = world.state(), UsageEvent.objects.count()
    now = datetime.now(UTC)
    batch = [
        {
            "id": each["id"],
            "source": f"run-{next(numbers) // 8}",  # now and then an id comes again
            "type": each["type"],
            "subject": world.key if named else world.customer.public_id,
            "data": each["data"],
        }
        | ({} if each["minutes"] is None else {"time": _in(now, each["minutes"])})
        for each in sent
    ]

    got = world.gate.send("POST", "/api/v1/events", batch)

    assert got.status == 200, got.body
    fates = got.body["accepted"] + got.body["duplicates"] + len(got.body["rejected"])
    assert fates == len(batch)
    assert not {each["code"] for each in got.body["rejected"]} & {"internal_error", "unavailable"}
    assert UsageEvent.objects.count() == stored + got.body["accepted"]
    if not got.body["accepted"]:
        assert world.state() == before
    assert broken(world.customer.id) == []


known = st.sampled_from(
    ["api.calls", "chat.tokens", *(f"work.{kind}" for kind in (*KINDS, "cost"))]
)
meters = known | known | known | texts
whole = st.integers(0, 50) | st.integers(0, 50) | scalars
asked_for = {
    "mode": st.sampled_from(["peek", "consume", "hold"]),
    "id": st.sampled_from([*"abcdefgh"]) | texts,
}
besides = {
    "source": st.sampled_from(["s", "t", "u", ""]),
    "ttl": st.integers(1, 86_401),
    "properties": data,
    "minutes": st.integers(-100_000, 4),
}
rows = st.lists(st.fixed_dictionaries({"meter": meters}, optional={"quantity": whole}), max_size=3)
members = st.sampled_from(["mode", "meter", "id", "more", "items"])
single = st.fixed_dictionaries(
    {**asked_for, "meter": meters}, optional={**besides, "quantity": whole}
)
several = st.fixed_dictionaries({**asked_for, "items": rows}, optional=besides)
plain = st.fixed_dictionaries(
    {**asked_for, "meter": known, "quantity": st.integers(0, 20)},
    optional={"properties": st.fixed_dictionaries({"user": texts, "size": st.integers(0, 9)})},
)
bodies = plain | plain | single | several | st.dictionaries(members, scalars)


@fuzz
@given(bodies, st.booleans())
def test_checks_of_known_customers_with_anything_in_them(
    world: World, every_kind: None, body: dict[str, Any], batched: bool
) -> None:
    asked = {"key": world.key} | {name: each for name, each in body.items() if name != "minutes"}
    before = world.state()
    if "minutes" in body:
        asked["time"] = _in(datetime.now(UTC), body["minutes"])
    if batched:
        got = world.gate.check({"checks": [asked]})
        assert got.status == 200, got.body
        (told,) = got.body["results"]
        status = told["status"]
    else:
        got = world.gate.check(asked)
        told, status = got.body, got.status

    assert status in (200, 400, 402, 403, 409, 422, 429), told
    if status != 200 or asked.get("mode", "peek") == "peek":
        assert world.state() == before, told
    assert broken(world.customer.id) == []


settlings = st.fixed_dictionaries(
    {},
    optional={
        "quantity": whole,
        "items": rows,
        "properties": data,
        "more": scalars,
    },
)


@fuzz
@given(st.sampled_from(["settle", "settle", "release", "extend"]), settlings | scalars)
def test_ends_of_holds_with_anything_in_them(world: World, action: str, body: Any) -> None:
    opened = world.check(mode="hold", id=f"h{next(numbers)}", quantity=3, ttl=600)
    if opened.status != 200:
        assert opened.body["code"] in ("in_flight", "quota_exhausted")
        return
    before, path = world.state(), f"/api/v1/holds/{opened.body['hold']['id']}/{action}"

    got = world.gate.send("POST", path, body)

    assert got.status in (200, 400, 422), got.body
    if got.status != 200:
        assert world.state() == before
        assert world.gate.send("POST", f"{path.removesuffix(action)}release").status == 200
    assert broken(world.customer.id) == []


@pytest.fixture
def every_kind(world: World, metered: Meters) -> None:
    """A meter of every aggregation and a cost meter, all of the type work.done."""
    for kind in KINDS:
        metered(kind)
    a_table(input="0.0000025", output="0.00001")
    metered("sum", key="work.cost", value_property="model", price_table="llm")


def _in(now: datetime, minutes: int) -> str:
    return (now + timedelta(minutes=minutes)).isoformat()
