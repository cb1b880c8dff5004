"""metering.operations.pricing: price tables, drafts, activation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.models import AuditEntry, CatalogueVersion
from metering.models import PriceTable, PriceTableVersion, TokenPrice
from metering.operations.pricing import (
    PricesInvalid,
    PriceTableKeyTaken,
    PriceVersionActive,
    PriceVersionUnknown,
    activate_prices,
    create_price_table,
    digest_of,
    draft_prices,
)
from metering.queries.prices import (
    difference_of,
    newest_active,
    price_schedule,
    price_table_by_key,
    prices_of,
)
from tests.factories.metering import NOW

pytestmark = pytest.mark.django_db
AHEAD = timedelta(minutes=5)
ACTOR: dict[str, Any] = {"actor": "opk_1", "now": NOW}
PRICES = {
    ("m-1", "input"): Decimal("0.0000025"),
    ("m-1", "output"): Decimal("0.00001"),
    ("*", "input"): Decimal("0.000000000000000001"),
}


def a_table(**changes: Any) -> PriceTable:
    return create_price_table(**{"key": "llm", **ACTOR, **changes})


def state() -> list[Any]:
    """Everything that a refusal must leave as it was."""
    row = CatalogueVersion.objects.first()
    return [
        0 if row is None else row.version,
        sorted(PriceTable.objects.values_list()),
        sorted(PriceTableVersion.objects.values_list("id", "number", "effective_at"), key=str),
        TokenPrice.objects.count(),
        AuditEntry.objects.count(),
    ]


def test_a_table_is_made_once() -> None:
    table = a_table(name="What models cost", currency="eur")
    assert price_table_by_key("llm") == table
    assert (str(table), table.public_id[:5], table.currency) == ("llm", "ptab_", "eur")
    assert AuditEntry.objects.get().subject == table.public_id
    before = state()
    with pytest.raises(PriceTableKeyTaken):
        a_table()
    for wrong, param in (({"key": "a b"}, "key"), ({"key": "b", "currency": "EUR"}, "currency")):
        with pytest.raises(PricesInvalid) as refused:
            a_table(**wrong)
        assert (refused.value.param, bool(refused.value.detail)) == (param, True)
    assert state() == before
    assert price_table_by_key("a\x00b") is None


def test_a_draft_keeps_prices_source_and_hash_and_prices_nothing() -> None:
    table = a_table()
    catalogue = state()[0]
    version = draft_prices(table.id, prices=PRICES, source="list 1.0", sha256="ab" * 32, **ACTOR)
    assert (version.number, version.status, str(version)) == (1, "draft", f"{table.id} v1")
    assert (version.source, version.sha256, version.created_by) == ("list 1.0", "ab" * 32, "opk_1")
    assert prices_of(version) == PRICES
    assert str(TokenPrice.objects.get(model="*")) == "* input 0.000000000000000001"
    assert newest_active(table.id) is None
    assert price_schedule(table.id).books == ()
    assert state()[0] == catalogue


def test_the_same_draft_again_is_the_same_draft() -> None:
    table = a_table()
    first = draft_prices(table.id, prices=PRICES, source="list 1.0", **ACTOR)
    before = state()
    assert first.sha256 == digest_of(dict(reversed(PRICES.items())))
    assert draft_prices(table.id, prices=PRICES, source="list 1.0", **ACTOR) == first
    assert state() == before
    other = draft_prices(table.id, prices=PRICES, source="list 1.1", **ACTOR)
    changed = draft_prices(table.id, prices={("m-1", "input"): Decimal(1)}, **ACTOR)
    assert [first.number, other.number, changed.number] == [1, 2, 3]
    # Of an active version a new draft is made, for it might be meant to stand again later.
    activate_prices(table.id, number=3, ahead=AHEAD, **ACTOR)
    again = draft_prices(table.id, prices={("m-1", "input"): Decimal(1)}, **ACTOR)
    assert again.number == 4


@pytest.mark.parametrize(
    ("prices", "param"),
    [
        ({}, "prices"),
        ({("", "input"): Decimal(1)}, "prices.model"),
        ({("m" * 201, "input"): Decimal(1)}, "prices.model"),
        ({("a\x00", "input"): Decimal(1)}, "prices.model"),
        ({("a*b", "input"): Decimal(1)}, "prices.model"),
        ({("a", "video"): Decimal(1)}, "prices"),
        ({("a", "input"): Decimal("1e-19")}, "prices.input"),
        ({("a", "input"): Decimal(-1)}, "prices.input"),
        ({("a", "input"): Decimal(1_000_001)}, "prices.input"),
    ],
)
def test_prices_that_cannot_be_are_refused(
    prices: dict[tuple[str, str], Decimal], param: str
) -> None:
    table = a_table()
    before = state()
    with pytest.raises(PricesInvalid) as refused:
        draft_prices(table.id, prices={**PRICES, **prices} if prices else {}, **ACTOR)
    assert refused.value.param == param
    assert state() == before


def test_the_first_version_prices_what_was_late_too() -> None:
    table = a_table()
    draft_prices(table.id, prices=PRICES, **ACTOR)
    catalogue = state()[0]
    version = activate_prices(table.id, number=1, ahead=AHEAD, **ACTOR)
    assert (version.status, version.effective_at) == ("active", datetime(1970, 1, 1, tzinfo=UTC))
    assert state()[0] == catalogue + 1
    for days in (90, 10_000):
        book = price_schedule(table.id).book_at(NOW - timedelta(days=days))
        assert book.cost("m-1", {"input": 2}) == 5_000


def test_a_later_version_changes_nothing_that_has_occurred() -> None:
    table = a_table()
    draft_prices(table.id, prices=PRICES, **ACTOR)
    dearer = {**PRICES, ("m-1", "input"): Decimal("0.000005")}
    draft_prices(table.id, prices=dearer, **ACTOR)
    first = activate_prices(
        table.id, number=1, effective_at=NOW - timedelta(days=1), ahead=AHEAD, **ACTOR
    )
    before = state()
    for when in (NOW, NOW + AHEAD - timedelta.resolution, NOW - timedelta(days=2)):
        with pytest.raises(PricesInvalid, match="at least 300 s from now") as refused:
            activate_prices(table.id, number=2, effective_at=when, ahead=AHEAD, **ACTOR)
        assert refused.value.param == "effective_at"
    assert state() == before
    second = activate_prices(table.id, number=2, ahead=AHEAD, **ACTOR)
    assert second.effective_at == NOW + AHEAD
    assert newest_active(table.id) == second
    schedule = price_schedule(table.id)
    around = (NOW + AHEAD - timedelta.resolution, NOW + AHEAD)
    costs = [schedule.book_at(at).cost("m-1", {"input": 1}) for at in around]
    assert costs == [2_500, 5_000]
    (changed,) = difference_of(second, base=first).changed
    assert (changed.before, changed.percent) == (Decimal("0.0000025"), Decimal(100))


def test_versions_begin_one_after_the_other() -> None:
    table = a_table()
    for number in (1, 2, 3):
        draft_prices(table.id, prices={("*", "input"): Decimal(number)}, **ACTOR)
    activate_prices(table.id, number=1, ahead=AHEAD, **ACTOR)
    later = NOW + timedelta(days=3)
    activate_prices(table.id, number=2, effective_at=later, ahead=AHEAD, **ACTOR)
    before = state()
    for when in (later, later - timedelta(days=1)):
        with pytest.raises(PricesInvalid, match="version 2 begins at"):
            activate_prices(table.id, number=3, effective_at=when, ahead=AHEAD, **ACTOR)
    assert state() == before


def test_activating_twice_is_activating_once() -> None:
    table = a_table()
    draft_prices(table.id, prices=PRICES, **ACTOR)
    first = activate_prices(table.id, number=1, effective_at=NOW, ahead=AHEAD, **ACTOR)
    before = state()
    for repeated in (None, NOW):
        again = activate_prices(table.id, number=1, effective_at=repeated, ahead=AHEAD, **ACTOR)
        assert again.effective_at == first.effective_at
    with pytest.raises(PriceVersionActive):
        activate_prices(
            table.id, number=1, effective_at=NOW + timedelta(days=1), ahead=AHEAD, **ACTOR
        )
    with pytest.raises(PriceVersionUnknown):
        activate_prices(table.id, number=2, ahead=AHEAD, **ACTOR)
    assert state() == before
