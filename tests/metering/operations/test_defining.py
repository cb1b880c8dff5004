"""metering.operations.defining."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from accounts.models import AuditEntry, CatalogueVersion
from metering.domain.meters import DIMENSIONS_MAX, matches
from metering.models import Meter, MeterVersion, PriceTable
from metering.operations.defining import (
    MeterArchived,
    MeterDefinitionInvalid,
    MeterKeyTaken,
    MeterUnknown,
    archive_meter,
    change_meter,
    define_meter,
)
from metering.operations.pricing import activate_prices, create_price_table, draft_prices
from metering.queries.meters import all_terms, meter_by_reference, terms_of
from tests.factories.metering import NOW

pytestmark = pytest.mark.django_db
AHEAD = timedelta(minutes=5)
SOON = NOW + AHEAD


def define(**changes: Any) -> Meter:
    given: dict[str, Any] = {
        "key": "chat.tokens",
        "event_type": "llm.completion",
        "aggregation": "sum",
        "value_property": "tokens",
        "dimensions": ["model"],
        "filters": [{"property": "region", "in": ["eu", True]}],
        "unit": "token",
        "actor": "opk_1",
        "now": NOW,
        **changes,
    }
    return define_meter(**given)


def catalogue_version() -> int:
    row = CatalogueVersion.objects.first()
    return 0 if row is None else row.version


def test_a_meter_is_kept_audited_and_seen_by_the_gate() -> None:
    before = catalogue_version()
    meter = define()
    assert catalogue_version() == before + 1
    assert AuditEntry.objects.get().subject == meter.public_id
    terms = terms_of(Meter.objects.get())
    assert matches(terms, type="llm.completion", properties={"region": "eu"})
    assert not matches(terms, type="llm.completion", properties={"region": "us"})
    assert (terms.dimensions, terms.unit) == (("model",), "token")


def test_a_key_is_given_once_even_after_archiving() -> None:
    meter = define()
    archive_meter(meter.id, actor="opk_1", now=NOW)
    before = catalogue_version()
    with pytest.raises(MeterKeyTaken):
        define(aggregation="count", value_property="")
    assert (Meter.objects.count(), catalogue_version()) == (1, before)


def test_archiving_twice_is_archiving_once() -> None:
    meter = define()
    archive_meter(meter.id, actor="opk_1", now=NOW)
    before = catalogue_version()
    again = archive_meter(meter.id, actor="opk_1", now=NOW.replace(year=2027))
    assert (again.archived_at, catalogue_version()) == (NOW, before)
    assert AuditEntry.objects.filter(action="meter.archived").count() == 1


def test_archiving_nothing_is_refused() -> None:
    with pytest.raises(MeterUnknown):
        archive_meter(12_345, actor="opk_1", now=NOW)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"key": ""}, "key"),
        ({"key": "with blank"}, "key"),
        ({"key": "k" * 101}, "key"),
        ({"event_type": ""}, "event_type"),
        ({"event_type": "x" * 201}, "event_type"),
        ({"unit": "u" * 41}, "unit"),
        ({"unit": "a\x00"}, "unit"),
        ({"event_type": "a\x00"}, "event_type"),
        ({"aggregation": "max", "value_property": ""}, "property"),
        ({"price_table": "nowhere"}, "price_table"),
        ({"price_table": "a\x00"}, "price_table"),
        ({"filters": [{"in": ["eu"]}]}, "filters[0]"),
        ({"filters": [{"property": "region", "like": "eu"}]}, "filters[0]"),
        ({"filters": [{"property": 7, "in": ["eu"]}]}, "filters[0].property"),
        ({"filters": [{"property": "region", "in": ["x"] * 101}]}, "filters[0].in"),
        ({"filters": [{"property": "region", "not_in": ["a\x00"]}]}, "filters[0].not_in"),
        ({"filters": [{"property": "region", "exists": 1}]}, "filters[0].exists"),
        ({"filters": [{"property": "size", "gte": "1"}]}, "filters[0].gte"),
        ({"filters": [{"property": "size", "lt": True}]}, "filters[0].lt"),
        ({"filters": [{"property": "size", "gt": float("inf")}]}, "filters[0].gt"),
        ({"aggregation": "median"}, "aggregation"),
        ({"aggregation": "count"}, "property"),
        ({"value_property": ""}, "property"),
        ({"dimensions": [f"d{n}" for n in range(DIMENSIONS_MAX + 1)]}, "dimensions"),
        ({"dimensions": ["model", "model"]}, "dimensions"),
        ({"dimensions": ["a b"]}, "dimensions"),
        ({"filters": [{"property": "region", "in": ["eu"]}] * 9}, "filters"),
        ({"filters": [{"property": "region"}]}, "filters[0]"),
        ({"filters": [{"property": "", "in": ["eu"]}]}, "filters[0].property"),
        ({"filters": [{"property": "region", "in": []}]}, "filters[0].in"),
        ({"filters": [{"property": "region", "in": "eu"}]}, "filters[0].in"),
        ({"filters": [{"property": "region", "in": [None]}]}, "filters[0].in"),
    ],
)
def test_what_cannot_be_a_meter_is_refused_by_name(changes: dict[str, Any], param: str) -> None:
    before = catalogue_version()
    with pytest.raises(MeterDefinitionInvalid) as refused:
        define(**changes)
    assert refused.value.param == param
    assert refused.value.detail
    assert (Meter.objects.count(), catalogue_version()) == (0, before)


def test_a_meter_is_found_by_id_and_by_key() -> None:
    meter, odd = define(), define(key="mtr_odd")
    assert meter_by_reference(meter.public_id) == meter
    assert meter_by_reference("chat.tokens") == meter
    assert meter_by_reference("mtr_odd") == odd
    for unknown in ("nothing", "a\x00b", "mtr_zzzzzzzzzzzzz", "mtr_0000001000000"):
        assert meter_by_reference(unknown) is None


def a_price_table(key: str = "llm", **fields: Any) -> PriceTable:
    """A table with one active version: a token of any model costs a thousandth."""
    table = create_price_table(key=key, actor="opk_1", now=NOW, **fields)
    prices = {("*", "input"): Decimal("0.001")}
    draft_prices(table.id, prices=prices, actor="opk_1", now=NOW)
    activate_prices(table.id, number=1, ahead=AHEAD, actor="opk_1", now=NOW)
    return table


def change(meter: Meter, **changes: Any) -> MeterVersion | None:
    given: dict[str, Any] = {"ahead": AHEAD, "actor": "opk_2", "now": NOW, **changes}
    return change_meter(meter.id, **given)


def test_a_meter_of_costs_counts_billionths_of_the_tables_currency() -> None:
    a_price_table(currency="eur")
    meter = define(key="cost", value_property="", unit="", price_table="llm")
    assert (meter.unit, meter.value_property) == ("nano-eur", "model")
    assert meter.display == {"unit": "EUR", "divisor": 1_000_000_000}
    shown = {"unit": "cent", "divisor": 10_000_000}
    other = define(key="cost2", unit="nano-eur", price_table="llm", display=shown)
    assert (other.display, other.value_property) == (shown, "tokens")
    terms = terms_of(Meter.objects.get(key="cost"))
    assert terms.prices is not None
    assert terms.prices.book_at(NOW).cost("any", {"input": 1}) == 1_000_000
    for wrong, param in (
        ({"unit": "token"}, "unit"),
        ({"aggregation": "max"}, "price_table"),
        ({"aggregation": "count", "value_property": ""}, "price_table"),
        ({"value_property": "a b"}, "property"),
    ):
        before = catalogue_version()
        with pytest.raises(MeterDefinitionInvalid) as refused:
            define(**{"key": "cost3", "unit": "", "price_table": "llm", **wrong})
        assert refused.value.param == param
        assert catalogue_version() == before


def test_units_and_displays_go_without_saying() -> None:
    meter = define(unit="")
    assert (meter.unit, meter.display) == ("call", {})


def test_a_change_stands_from_its_time_on() -> None:
    meter = define()
    before = catalogue_version()
    version = change(meter, filters=[{"property": "region", "in": ["us"]}], dimensions=[])
    assert version is not None
    assert (version.number, version.effective_at, version.created_by) == (2, SOON, "opk_2")
    assert str(version) == f"{meter.id} v2"
    assert (version.event_type, version.value_property) == ("llm.completion", "tokens")
    assert catalogue_version() == before + 1
    entry = AuditEntry.objects.get(action="meter.changed")
    assert entry.changes == {"version": 2, "effective_at": SOON.isoformat()}
    first, second = all_terms([Meter.objects.get()])
    for terms, region, at in (
        (first, "eu", SOON - timedelta.resolution),
        (second, "us", SOON),
    ):
        assert terms_of(meter, at=at) == terms
        assert matches(terms, type="llm.completion", properties={"region": region}, at=at)
    assert terms_of(meter) == first
    assert (first.dimensions, second.dimensions) == (("model",), ())


def test_versions_follow_one_another_and_repeat_nothing() -> None:
    meter = define()
    assert change(meter) is None
    assert change(meter, event_type="llm.completion") is None
    second = change(meter, event_type="llm.chat", value_property="count")
    before = catalogue_version()
    assert change(meter, event_type="llm.chat") == second
    assert catalogue_version() == before
    for wrong, reason in (
        (SOON, "version 2 begins at"),
        (SOON - timedelta.resolution, "at least 300 s from now"),
        (NOW - timedelta(days=1), "at least 300 s from now"),
    ):
        with pytest.raises(MeterDefinitionInvalid, match=reason) as refused:
            change(meter, event_type="llm.other", effective_at=wrong)
        assert refused.value.param == "effective_at"
    assert (MeterVersion.objects.count(), catalogue_version()) == (1, before)
    later = SOON + timedelta(days=1)
    third = change(meter, event_type="llm.other", effective_at=later)
    assert third is not None
    assert (third.number, third.effective_at, third.value_property) == (3, later, "count")


def test_a_change_is_checked_as_a_definition_is() -> None:
    meter = define()
    before = catalogue_version()
    for wrong, param in (
        ({"event_type": ""}, "event_type"),
        ({"value_property": ""}, "property"),
        ({"dimensions": ["a", "a"]}, "dimensions"),
        ({"filters": [{"property": "x"}]}, "filters[0]"),
        ({"price_table": "nowhere"}, "price_table"),
    ):
        with pytest.raises(MeterDefinitionInvalid) as refused:
            change(meter, **wrong)
        assert refused.value.param == param
    with pytest.raises(MeterUnknown):
        change_meter(meter.id + 1, ahead=AHEAD, actor="opk_2", now=NOW)
    archive_meter(meter.id, actor="opk_1", now=NOW)
    archived = catalogue_version()
    with pytest.raises(MeterArchived):
        change(meter, event_type="llm.other")
    assert (MeterVersion.objects.count(), archived) == (0, before + 1)
    assert catalogue_version() == archived


def test_costs_go_on_in_the_same_currency() -> None:
    a_price_table()
    a_price_table("llm-2")
    a_price_table("llm-eur", currency="eur")
    plain = define()
    costs = define(key="cost", unit="", price_table="llm")
    before = catalogue_version()
    for meter, table in ((plain, "llm"), (costs, "llm-eur")):
        with pytest.raises(MeterDefinitionInvalid) as refused:
            change(meter, price_table=table)
        assert refused.value.param == "price_table"
    with pytest.raises(MeterDefinitionInvalid):
        change(costs, price_table="", value_property="tokens")
    assert catalogue_version() == before
    version = change(costs, price_table="llm-2")
    assert version is not None
    assert version.price_table is not None
    first, second = all_terms([costs])
    assert (first.prices and first.prices.key, second.prices and second.prices.key) == (
        "llm",
        "llm-2",
    )


def test_the_database_keeps_the_rules_too() -> None:
    table = a_price_table()
    meter = define()
    for wrong in (
        {"aggregation": "count"},
        {"value_property": ""},
        {"aggregation": "max", "price_table": table},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            Meter.objects.filter(id=meter.id).update(**wrong)
    change(meter, event_type="llm.chat")
    with pytest.raises(IntegrityError), transaction.atomic():
        MeterVersion.objects.update(number=1)
