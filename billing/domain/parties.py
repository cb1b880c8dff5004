"""Who bills and who is billed, as an invoice names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Party:
    """A legal person. ``address`` in lines, the country last."""

    name: str
    address: tuple[str, ...] = ()
    tax_id: str = ""
    email: str = ""

    def to_json(self) -> dict[str, Any]:
        """The form in which an invoice keeps it; what is empty is left out."""
        kept = {
            "name": self.name,
            "address": list(self.address),
            "tax_id": self.tax_id,
            "email": self.email,
        }
        return {member: value for member, value in kept.items() if value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of ``to_json``."""
        return cls(
            name=data.get("name", ""),
            address=tuple(data.get("address", ())),
            tax_id=data.get("tax_id", ""),
            email=data.get("email", ""),
        )


def address_lines(
    *, line1: str, line2: str, postal_code: str, city: str, state: str, country: str
) -> tuple[str, ...]:
    """An address as it is written on a letter, without empty lines."""
    place = " ".join(part for part in (postal_code, city) if part)
    return tuple(line for line in (line1, line2, place, state, country) if line)
