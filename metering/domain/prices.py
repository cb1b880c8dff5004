"""What tokens cost: price tables by model and token class, in versions with a time each.

Exact: prices are kept as whole numbers of 10^-18 of the currency's main unit, tokens are whole
numbers, and their products are summed before the one rounding (half up) to the meter's unit, the
billionth of the main unit (`nano`): 1 USD = 1,000,000,000 units.
"""

from __future__ import annotations

import difflib
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

PLACES = 18  # of a stored price
UNITS_PLACES = 9  # of the meter's unit: nano
PRICE_MAX = Decimal(1_000_000)
_ROUND = 1_000_000_000  # 10^(PLACES - UNITS_PLACES)

# Token class -> the property of an event that holds its number. Classes are disjoint: a cached
# token is not an input token as well.
TOKEN_CLASSES: dict[str, str] = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cached_input": "cached_input_tokens",
    "cache_write": "cache_write_tokens",
    "reasoning": "reasoning_tokens",
    "audio_input": "audio_input_tokens",
    "audio_output": "audio_output_tokens",
}
# A model without an own price of a class charges it like the class it is a kind of.
CHARGED_AS: dict[str, str] = {
    "cached_input": "input",
    "cache_write": "input",
    "audio_input": "input",
    "reasoning": "output",
    "audio_output": "output",
}
_COMPARED_MAX = 300
_COMPARED_LENGTH = 80
_NUMBER = re.compile(r"[0-9]{1,7}(\.[0-9]{1,18})?")


class PriceUnknown(ValueError):
    """A model, or a token class of it, has no price at that time; `nearest` are known models."""

    def __init__(self, detail: str, *, nearest: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.nearest = list(nearest)


def price_of(text: str) -> Decimal:
    """Read a price per token: digits, at most 18 of them after the point; raises ValueError."""
    if not _NUMBER.fullmatch(text) or Decimal(text) > PRICE_MAX:
        raise ValueError("a price is a decimal from 0 to 1,000,000 with at most 18 places")
    return Decimal(text)


def scaled(price: Decimal) -> int:
    """A price as a whole number of 10^-18; exact, raises ValueError where it is not."""
    number = price.scaleb(PLACES)
    whole = int(number)
    if whole != number:
        raise ValueError(f"{price} has more than {PLACES} places")
    return whole


@dataclass(frozen=True, slots=True)
class PriceBook:
    """The prices of one version: model -> token class -> 10^-18 of the main unit per token.

    A model is priced by its own name, else by the longest name ending in `*` that it begins
    with, else by `*`.
    """

    models: Mapping[str, Mapping[str, int]]
    patterns: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        """Sort the patterns, longest first."""
        found = sorted((name for name in self.models if name.endswith("*")), key=len, reverse=True)
        object.__setattr__(self, "patterns", tuple(found))

    def row_of(self, model: str) -> str:
        """The name under which a model is priced; raises PriceUnknown with names like it."""
        if model in self.models:
            return model
        for pattern in self.patterns:
            if model.startswith(pattern[:-1]):
                return pattern
        # Only among some that begin alike: whoever sends nonsense must not keep others waiting.
        alike = [name for name in self.models if name[:2] == model[:2]][:_COMPARED_MAX]
        near = difflib.get_close_matches(model[:_COMPARED_LENGTH], alike, n=3)
        hint = f" Names like it: {', '.join(near)}." if near else ""
        raise PriceUnknown(f"The price table has no model {model[:80]!r}.{hint}", nearest=near)

    def cost(self, model: str, tokens: Mapping[str, int]) -> int:
        """Σ tokens times price in billionths of the main unit, rounded once, half up."""
        row = self.row_of(model)
        prices = self.models[row]
        total = 0
        for name, number in tokens.items():
            if not number:
                continue
            price = prices.get(name)
            if price is None:
                price = prices.get(CHARGED_AS.get(name, ""))
            if price is None:
                raise PriceUnknown(f"The price table has no price of {name} tokens for {row!r}.")
            total += number * price
        return (total + _ROUND // 2) // _ROUND


def books_of(rows: Iterable[tuple[int, str, str, str]]) -> dict[int, PriceBook]:
    """Books by version, from rows of version, model, token class and price in 10^-18 as text."""
    versions: dict[int, dict[str, dict[str, int]]] = {}
    for version, model, name, price in rows:
        versions.setdefault(version, {}).setdefault(model, {})[name] = int(price)
    return {version: PriceBook(models) for version, models in versions.items()}


@dataclass(frozen=True, slots=True)
class PriceSchedule:
    """The versions of a price table that stand or will, by the time from which they do."""

    key: str
    starts: tuple[datetime, ...]
    books: tuple[PriceBook, ...]

    def book_at(self, moment: datetime) -> PriceBook:
        """The version that stands at that moment; raises PriceUnknown where none does."""
        place = bisect_right(self.starts, moment)
        if not place:
            raise PriceUnknown(f"The price table {self.key!r} has no version that early.")
        return self.books[place - 1]


@dataclass(frozen=True, slots=True)
class PriceChange:
    """One price that two versions have differently; None = it is not there."""

    model: str
    token_class: str
    before: Decimal | None
    after: Decimal | None

    @property
    def percent(self) -> Decimal | None:
        """The change in per cent of the old price, two places; None where there is no old one."""
        if self.before is None or self.after is None or not self.before:
            return None
        return ((self.after - self.before) * 100 / self.before).quantize(Decimal("0.01"))


@dataclass(frozen=True, slots=True)
class PriceDiff:
    """What a version changes against an earlier one, in order of model and class."""

    added: tuple[PriceChange, ...]
    changed: tuple[PriceChange, ...]
    removed: tuple[PriceChange, ...]


Rows = Mapping[tuple[str, str], Decimal]  # (model, token class) -> price


def difference(before: Rows, after: Rows) -> PriceDiff:
    """Compare two versions price by price."""

    def changes(keys: Iterable[tuple[str, str]]) -> tuple[PriceChange, ...]:
        return tuple(
            PriceChange(model, name, before.get((model, name)), after.get((model, name)))
            for model, name in sorted(keys)
        )

    return PriceDiff(
        added=changes(after.keys() - before.keys()),
        changed=changes(key for key in after.keys() & before.keys() if before[key] != after[key]),
        removed=changes(before.keys() - after.keys()),
    )


def described(diff: PriceDiff) -> dict[str, list[dict[str, str | None]]]:
    """A difference as JSON: {"added", "changed", "removed"}, prices and percentages as text."""

    def rows(changes: Iterable[PriceChange]) -> list[dict[str, str | None]]:
        return [
            {
                "model": each.model,
                "class": each.token_class,
                "before": price_text(each.before),
                "after": price_text(each.after),
                "percent": None if each.percent is None else str(each.percent),
            }
            for each in changes
        ]

    return {
        "added": rows(diff.added),
        "changed": rows(diff.changed),
        "removed": rows(diff.removed),
    }


def price_text(price: Decimal | None) -> str | None:
    """A price without an exponent and without zeros at its end."""
    if price is None:
        return None
    text = f"{price:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
