"""Fields take exactly what they say."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.exceptions import ValidationError

from accounts.api import fields
from accounts.domain import ids

FIELDS: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "text": (fields.TextField(), ["a", "ä"], [1, 1.5, True, None, [], {}, ""]),
    "key": (fields.KeyField(), ["chat.tokens", "A-1"], ["", "a b", ".a", "ä", "a" * 101, 1]),
    "whole": (fields.WholeField(least=1, most=9), [1, 9], [0, 10, 1.0, "1", True, None, 10**40]),
    "flag": (fields.FlagField(), [True, False], ["true", 1, 0, None, "yes", []]),
    "instant": (
        fields.InstantField(),
        ["2026-11-01T00:00:00Z", "2026-11-01t00:00:00.5+02:00", "2016-12-31T23:59:60Z"],
        ["2026-11-01", "2026-11-01T00:00:00", "2026-02-30T00:00:00Z", 5, None, "now", ""],
    ),
    "id": (fields.PublicIdField("gw"), ["gw_0000000000001"], ["cus_0000000000001", 1, None, ""]),
    "price": (
        fields.UnitPriceField(),
        ["0", "0.000002", "12.000000000001"],
        [1, 0.1, "1e-6", "-1", ".5", "1.", "٣", "0.0000000000001", "NaN", None],
    ),
    "currency": (fields.CurrencyField(), ["usd"], ["USD", "us", "usdd", "ßßß", 1, None]),
    "metadata": (fields.MetadataField(), [{}, {"a": ""}], [{"a": 1}, {"a" * 41: ""}, [], None]),
}


@pytest.mark.parametrize("name", list(FIELDS))
def test_what_fits_passes_and_the_rest_is_refused(name: str) -> None:
    field, fitting, others = FIELDS[name]
    for value in fitting:
        field.run_validation(value)
    for value in others:
        with pytest.raises(ValidationError):
            field.run_validation(value)


@given(st.decimals(0, 10**14, places=12))
def test_prices_come_back_as_they_went(price: Decimal) -> None:
    field = fields.UnitPriceField()
    text = field.to_representation(price)
    assert field.run_validation(text) == price
    assert "E" not in text


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2999, 1, 1)))
def test_instants_come_back_as_they_went(moment: datetime) -> None:
    field = fields.InstantField()
    aware = moment.replace(tzinfo=UTC)
    assert field.run_validation(field.to_representation(aware)) == aware


@given(st.integers(0, ids.ENTITY_MAX))
def test_ids_come_back_as_they_went(number: int) -> None:
    field = fields.PublicIdField("gw")
    assert field.run_validation(field.to_representation(number)) == number
