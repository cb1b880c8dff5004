"""metering.operations.defining."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.models import AuditEntry, CatalogueVersion
from metering.domain.meters import DIMENSIONS_MAX, matches
from metering.models import Meter
from metering.operations.defining import (
    MeterDefinitionInvalid,
    MeterKeyTaken,
    MeterUnknown,
    archive_meter,
    define_meter,
)
from metering.queries.meters import meter_by_reference, terms_of
from tests.factories.metering import NOW

pytestmark = pytest.mark.django_db


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
        ({"unit": ""}, "unit"),
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
