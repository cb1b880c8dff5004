"""Fields that take exactly what they say: a number is not a text, a text is not a number."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from drf_spectacular.drainage import set_override
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.domain import ids
from accounts.domain.instants import read_instant
from accounts.models import Customer
from accounts.queries import customer_by_reference

WHOLE_MAX = 10**15
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)")
_DECIMAL = re.compile(r"\d{1,15}(\.\d{1,12})?")


class TextField(serializers.CharField):
    """A JSON text; never a number that happens to be printable."""

    def to_internal_value(self, data: Any) -> str:
        """Refuse all but texts."""
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


class KeyField(TextField):
    """The operator's own name for a meter, plan or feature: `chat.tokens`."""

    _SHAPE = re.compile(r"[a-z0-9][a-z0-9._:-]{0,99}", re.IGNORECASE)
    default_error_messages = {
        "shape": "Letters, digits, and . _ : - in between; at most 100, no blanks."
    }

    def to_internal_value(self, data: Any) -> str:
        """Refuse what would not survive in a header or an address."""
        text = super().to_internal_value(data)
        if not self._SHAPE.fullmatch(text):
            self.fail("shape")
        return text


class WholeField(serializers.Field[int, Any, int, Any]):
    """A JSON integer within bounds; `1.0`, `"1"` and `true` are refused."""

    default_error_messages = {
        "whole": "This must be a whole number, without quotes or fraction.",
        "range": "This must be from {least} to {most}.",
    }

    def __init__(self, *, least: int = 0, most: int = WHOLE_MAX, **options: Any) -> None:
        super().__init__(**options)
        self.least, self.most = least, most
        bounds = {"type": "integer", "minimum": least, "maximum": most}
        set_override(self, "field", bounds)

    def to_internal_value(self, data: Any) -> int:
        """Return the number."""
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("whole")
        if not self.least <= data <= self.most:
            self.fail("range", least=f"{self.least:,}", most=f"{self.most:,}")
        return data

    def to_representation(self, value: Any) -> int:
        """The number as it is."""
        return int(value)


class FlagField(serializers.BooleanField):
    """JSON true or false and nothing like them."""

    def to_internal_value(self, data: Any) -> bool:
        """Refuse "true", 1 and null."""
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class InstantField(serializers.DateTimeField):
    """An RFC 3339 time stamp with its offset; answered in UTC with a Z."""

    default_error_messages = {
        "instant": "This must be an RFC 3339 time with an offset, such as 2026-11-01T00:00:00Z."
    }

    def to_internal_value(self, value: Any) -> datetime:
        """Return the instant in UTC."""
        if not isinstance(value, str) or not _INSTANT.fullmatch(value):
            self.fail("instant")
        try:
            return read_instant(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail("instant")

    def to_representation(self, value: Any) -> str:
        """The instant in UTC with a Z, microseconds only where there are some."""
        return instant(value)


def instant(value: datetime) -> str:
    """A time as the API writes it: RFC 3339, UTC, `Z`."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


@extend_schema_field({"type": "string"})
class PublicIdField(serializers.Field[int, Any, str, Any]):
    """An entity's public id in JSON, its number inside: `PublicIdField("cus")`."""

    default_error_messages = {"public_id": "This must be an id of the form {prefix}_…."}

    def __init__(self, prefix: str, **options: Any) -> None:
        super().__init__(**options)
        self.prefix = prefix

    def to_internal_value(self, data: Any) -> int:
        """Return the number in the id."""
        try:
            return ids.decode(self.prefix, data if isinstance(data, str) else "")
        except ids.IdMalformed:
            self.fail("public_id", prefix=self.prefix)

    def to_representation(self, value: Any) -> str:
        """The public id of a number or of an entity."""
        return ids.encode(self.prefix, value if isinstance(value, int) else value.pk)


@extend_schema_field({"type": "string", "description": "cus_… or, in requests, external id"})
class CustomerField(serializers.Field[Customer, Any, str, Any]):
    """A customer by `cus_…` or external id; answered as `cus_…`."""

    default_error_messages = {"customer_unknown": "There is no customer with this id."}

    def to_internal_value(self, data: Any) -> Customer:
        """Return the customer, or fail with `customer_unknown`."""
        customer = customer_by_reference(data) if isinstance(data, str) else None
        if customer is None:
            self.fail("customer_unknown")
        return customer

    def to_representation(self, value: Any) -> str:
        """The public id of a customer or of its number."""
        return ids.encode(Customer.PREFIX, value if isinstance(value, int) else value.pk)


@extend_schema_field({"type": "string", "format": "decimal", "example": "0.000002"})
class UnitPriceField(serializers.Field[Decimal, Any, str, Any]):
    """A price as a decimal text, up to 12 places, never a JSON number."""

    default_error_messages = {
        "decimal": 'This must be a decimal in quotes, such as "0.000002", with up to 12 places.'
    }

    def to_internal_value(self, data: Any) -> Decimal:
        """Return the exact decimal."""
        if not isinstance(data, str) or not _DECIMAL.fullmatch(data) or not data.isascii():
            self.fail("decimal")
        return Decimal(data)

    def to_representation(self, value: Any) -> str:
        """The decimal without exponent or trailing zeros."""
        text = f"{Decimal(value):f}"
        return text.rstrip("0").rstrip(".") if "." in text else text


class CurrencyField(TextField):
    """A lower-case ISO 4217 code."""

    default_error_messages = {"currency": "This must be a currency such as usd, in lower case."}

    def to_internal_value(self, data: Any) -> str:
        """Refuse what cannot be a code."""
        text = super().to_internal_value(data)
        if not re.fullmatch(r"[a-z]{3}", text, re.ASCII):
            self.fail("currency")
        return text


class MetadataField(serializers.DictField):
    """Texts of the operator's own, kept and given back: at most 50, 500 characters each."""

    child = TextField(max_length=500, allow_blank=True, trim_whitespace=False)
    default_error_messages = {"too_many": "At most 50 members, with names up to 40 characters."}

    def to_internal_value(self, data: Any) -> dict[str, str]:
        """Return the texts by name."""
        found: dict[str, str] = super().to_internal_value(data)
        if len(found) > 50 or any(len(name) > 40 for name in found):
            self.fail("too_many")
        return found
