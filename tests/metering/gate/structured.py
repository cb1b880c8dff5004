"""A strict reader of structured fields (RFC 9651): lists of strings and integers with parameters.

It knows what RateLimit and RateLimit-Policy are made of, and refuses everything else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*")
_INTEGER = re.compile(r"-?[0-9]{1,15}(?![0-9.])")
_STRING = re.compile(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"')
_SEPARATOR = re.compile(r"[ \t]*,[ \t]*(?=[^ \t])")
Bare = str | int | bool


@dataclass(frozen=True, slots=True)
class Item:
    """A member of a list."""

    value: Bare
    parameters: dict[str, Bare] = field(default_factory=dict)


class FieldMalformed(ValueError):
    """The text is no structured field of the kinds known here."""


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def take(self, pattern: re.Pattern[str]) -> str | None:
        """Read what the pattern matches here, if it does."""
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found.group()

    def bare(self) -> Bare:
        """Read a string or an integer."""
        text = self.take(_STRING)
        if text is not None:
            return re.sub(r"\\(.)", r"\1", text[1:-1])
        number = self.take(_INTEGER)
        if number is None:
            raise FieldMalformed(f"no item at {self.at}: {self.text!r}")
        return int(number)

    def item(self) -> Item:
        """Read an item with its parameters."""
        item = Item(self.bare())
        while self.take(re.compile(";")):
            self.take(re.compile(" *"))
            key = self.take(_KEY)
            if key is None:
                raise FieldMalformed(f"no parameter at {self.at}: {self.text!r}")
            item.parameters[key] = self.bare() if self.take(re.compile("=")) else True
        return item


def read_list(text: str) -> list[Item]:
    """Read a list field; raises FieldMalformed."""
    reader = _Reader(text.strip(" "))
    items = [reader.item()]
    while reader.at < len(reader.text):
        if reader.take(_SEPARATOR) is None:
            raise FieldMalformed(f"no separator at {reader.at}: {text!r}")
        items.append(reader.item())
    return items
