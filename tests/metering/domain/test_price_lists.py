"""metering.domain.price_lists: the published catalogue, read as data and without floats."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal

import pytest

from metering.domain.price_lists import MEMBERS, PriceListInvalid, read_price_list
from metering.domain.prices import TOKEN_CLASSES


def test_every_class_is_read_digit_by_digit() -> None:
    content = b"""{
        "sample_spec": {"input_cost_per_token": 0.1, "max_tokens": "an explanation"},
        "m-1": {"input_cost_per_token": 1.5e-07, "output_cost_per_token": 6E-7,
                "cache_read_input_token_cost": 0.000000075,
                "cache_creation_input_token_cost": 0.0000001875,
                "output_cost_per_reasoning_token": 1, "input_cost_per_audio_token": 0.00001,
                "output_cost_per_audio_token": 2e-5, "litellm_provider": "example"},
        "free": {"input_cost_per_token": 0, "output_cost_per_token": null}
    }"""
    found = read_price_list(content)
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert found.prices == {
        ("m-1", "input"): Decimal("0.00000015"),
        ("m-1", "output"): Decimal("0.0000006"),
        ("m-1", "cached_input"): Decimal("0.000000075"),
        ("m-1", "cache_write"): Decimal("0.0000001875"),
        ("m-1", "reasoning"): Decimal(1),
        ("m-1", "audio_input"): Decimal("0.00001"),
        ("m-1", "audio_output"): Decimal("0.00002"),
        ("free", "input"): Decimal(0),
    }
    assert (found.unpriced, found.stepped, found.rounded, found.refused) == ((), (), (), ())
    assert set(MEMBERS.values()) == set(TOKEN_CLASSES)


def test_what_is_left_out_is_named() -> None:
    found = read_price_list(
        json.dumps(
            {
                "image": {"output_cost_per_image": 0.04},
                "long": {
                    "input_cost_per_token": 1,
                    "input_cost_per_token_above_200k_tokens": 2,
                },
                "text": {"input_cost_per_token": "0.1", "output_cost_per_token": 1},
                "flag": {"input_cost_per_token": True, "output_cost_per_token": 1},
                "minus": {"input_cost_per_token": -1, "output_cost_per_token": 1},
                "dear": {"input_cost_per_token": 1_000_001, "output_cost_per_token": 1},
                "number": 7,
            }
        ).encode()
    )
    assert found.unpriced == ("image",)
    assert found.stepped == ("long",)
    assert found.refused == ("dear: input", "flag: input", "minus: input", "text: input")
    assert found.prices[("long", "input")] == 1
    assert {model for model, _ in found.prices} == {"long", "text", "flag", "minus", "dear"}


def test_finer_prices_than_are_kept_are_rounded_half_up_and_named() -> None:
    found = read_price_list(
        b'{"a": {"input_cost_per_token": 1.5e-18, "output_cost_per_token": 1e-18},'
        b' "b": {"input_cost_per_token": 0.1234567890123456785}}'
    )
    assert found.prices[("a", "input")] == Decimal("2e-18")
    assert found.prices[("a", "output")] == Decimal("1e-18")
    assert found.prices[("b", "input")] == Decimal("0.123456789012345679")
    assert found.rounded == ("a: input", "b: input")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not an object of models"),
        (b"{}", "no model with a price per token"),
        (b'{"a": {"input_cost_per_token": NaN}}', "no model with a price per token"),
        (b'{"a": {"input_cost_per_token": Infinity}}', "no model with a price per token"),
    ],
)
def test_what_is_no_catalogue_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(PriceListInvalid, match=reason):
        read_price_list(content)


def test_a_number_beyond_all_bounds_is_no_price() -> None:
    found = read_price_list(
        b'{"a": {"input_cost_per_token": 1e999999, "output_cost_per_token": 1e-999999},'
        b' "b": {"input_cost_per_token": 1}}'
    )
    assert found.refused == ("a: input",)
    assert found.prices[("a", "output")] == 0
    assert found.rounded == ("a: output",)
