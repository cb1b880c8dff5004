"""Tax as Stripe computed it: taken as given, added up, kept; none is computed here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

# How Stripe calls the tax ids of a country that has one kind for companies.
_EUROPEAN_UNION: Final = (
    *("AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE"),
    *("IT", "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK"),
)
_KINDS: Final = dict.fromkeys(_EUROPEAN_UNION, "eu_vat") | {
    "AE": "ae_trn",
    "AU": "au_abn",
    "BR": "br_cnpj",
    "CA": "ca_bn",
    "CH": "ch_vat",
    "CL": "cl_tin",
    "GB": "gb_vat",
    "IL": "il_vat",
    "IN": "in_gst",
    "IS": "is_vat",
    "JP": "jp_trn",
    "KR": "kr_brn",
    "LI": "li_vat",
    "MX": "mx_rfc",
    "NO": "no_vat",
    "NZ": "nz_gst",
    "SA": "sa_vat",
    "SG": "sg_gst",
    "TR": "tr_tin",
    "TW": "tw_vat",
    "UA": "ua_vat",
    "US": "us_ein",
    "ZA": "za_vat",
}
_REASONS: Final = {
    "reverse_charge": "Reverse charge: the customer accounts for it",
    "customer_exempt": "The customer is exempt",
}


def tax_id_kind(country: str) -> str | None:
    """What Stripe calls a company's tax id of the country (``eu_vat``); None where it has several
    kinds, or we do not know."""
    return _KINDS.get(country)


@dataclass(frozen=True, slots=True)
class TaxRow:
    """One tax: ``amount`` on ``taxable``, minor units. ``included``: it is part of the total;
    otherwise it comes on top. ``reason``: Stripe's word for why it is what it is."""

    amount: int
    taxable: int
    included: bool
    reason: str

    def words(self) -> str:
        """What it is, for people; without the amount."""
        if self.reason in _REASONS:
            return _REASONS[self.reason]
        return "Tax, included in the total" if self.included else "Tax"


@dataclass(frozen=True, slots=True)
class InvoiceTax:
    """All tax of one invoice."""

    rows: tuple[TaxRow, ...] = ()

    @property
    def added(self) -> int:
        """What is to be paid on top of the lines."""
        return sum(row.amount for row in self.rows if not row.included)

    @property
    def included(self) -> int:
        """What of the lines is tax."""
        return sum(row.amount for row in self.rows if row.included)

    @classmethod
    def of_stripe(cls, taxes: Iterable[Mapping[str, Any]]) -> Self:
        """From ``total_taxes`` of an invoice at Stripe."""
        return cls(
            tuple(
                TaxRow(
                    amount=each["amount"],
                    taxable=each.get("taxable_amount") or 0,
                    included=each["tax_behavior"] == "inclusive",
                    reason=str(each.get("taxability_reason") or ""),
                )
                for each in taxes
            )
        )

    def to_json(self) -> list[dict[str, object]]:
        """The form in which an invoice keeps it."""
        return [
            {
                "amount": row.amount,
                "taxable": row.taxable,
                "included": row.included,
                "reason": row.reason,
            }
            for row in self.rows
        ]

    @classmethod
    def from_json(cls, data: Iterable[Mapping[str, Any]]) -> Self:
        """The inverse of ``to_json``."""
        return cls(tuple(TaxRow(**row) for row in data))
