"""Reading the published catalogue of model prices that LiteLLM carries: JSON, as data.

Prices in it are JSON numbers; they are read as decimals, digit by digit, never as floats.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from metering.domain.prices import PLACES, PRICE_MAX

# Member of the catalogue -> token class.
MEMBERS: Mapping[str, str] = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached_input",
    "cache_creation_input_token_cost": "cache_write",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "audio_input",
    "output_cost_per_audio_token": "audio_output",
}
_EXAMPLE = "sample_spec"  # an entry that explains the others


class PriceListInvalid(ValueError):
    """The data is no catalogue of model prices."""


@dataclass(frozen=True, slots=True)
class PriceList:
    """What a catalogue says: prices by (model, token class), and what was left out.

    `unpriced`: models without a price per token (images, seconds). `stepped`: models that cost
    more in long contexts, of which only the ordinary prices are taken. `rounded`: prices with more
    than 18 places, as `model: class`; `refused`: what is no price.
    """

    sha256: str
    prices: Mapping[tuple[str, str], Decimal]
    unpriced: tuple[str, ...]
    stepped: tuple[str, ...]
    rounded: tuple[str, ...]
    refused: tuple[str, ...]


def read_price_list(content: bytes) -> PriceList:
    """Read a catalogue; raises PriceListInvalid where it is none."""
    prices: dict[tuple[str, str], Decimal] = {}
    unpriced, stepped, rounded, refused = [], [], [], []
    for model, entry in _entries(content):
        found = {name: entry[member] for member, name in MEMBERS.items() if _has(entry, member)}
        if not found:
            unpriced.append(model)
            continue
        if any("_above_" in member for member in entry):
            stepped.append(model)
        for name, value in found.items():
            price = _price(value)
            if price is None:
                refused.append(f"{model}: {name}")
                continue
            prices[model, name] = price
            if price != value:
                rounded.append(f"{model}: {name}")
    if not prices:
        raise PriceListInvalid("this has no model with a price per token")
    return PriceList(
        sha256=hashlib.sha256(content).hexdigest(),
        prices=prices,
        unpriced=tuple(unpriced),
        stepped=tuple(stepped),
        rounded=tuple(rounded),
        refused=tuple(refused),
    )


def _entries(content: bytes) -> Iterator[tuple[str, dict[str, object]]]:
    try:
        data = json.loads(content, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise PriceListInvalid(f"this is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise PriceListInvalid("this is not an object of models")
    for model, entry in sorted(data.items()):
        if model != _EXAMPLE and isinstance(entry, dict):
            yield model, entry


def _has(entry: Mapping[str, object], member: str) -> bool:
    return entry.get(member) is not None


def _price(value: object) -> Decimal | None:
    """A price as it is written, rounded half up to 18 places; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    price = Decimal(value)
    if not 0 <= price <= PRICE_MAX:
        return None
    return price.quantize(Decimal(1).scaleb(-PLACES), rounding=ROUND_HALF_UP)
