"""What a call accepts: strict allow lists that also turn form strings into typed values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from billing.payments.simulator.errors import Refusal, bad_request
from billing.payments.simulator.forms import Json

_COUNTRY = re.compile(r"|(?!AA|Q[M-Z]|X[A-Z]|ZZ|UK)[A-Z]{2}")
_INTEGER = re.compile(r"-?\d{1,18}")
_DECIMAL = re.compile(r"-?\d{1,30}(\.\d{1,12})?")


class Kind(Protocol):
    """How one parameter is read."""

    def read(self, value: Any, name: str) -> Any:
        """Return the typed value, or raise the 400 that names the parameter."""


Shape = Mapping[str, Kind]


@dataclass(frozen=True, slots=True)
class Text:
    """A string; empty means "unset" where a call allows it."""

    longest: int = 5000

    def read(self, value: Any, name: str) -> str:
        if not isinstance(value, str):
            raise bad_request(f"Invalid string: {name}", param=name)
        if len(value) > self.longest:
            raise bad_request(
                f"Invalid string: {value[:20]}...; must be at most {self.longest} characters",
                code="parameter_invalid_string_too_long",
                param=name,
            )
        return value


@dataclass(frozen=True, slots=True)
class Country:
    """A country's code, or empty; those that ISO 3166-1 leaves to private use are none."""

    def read(self, value: Any, name: str) -> str:
        if not isinstance(value, str) or not _COUNTRY.fullmatch(value):
            message = f"Country '{value}' is unknown. Try using a 2-character alphanumeric code."
            raise bad_request(message, code="country_code_invalid", param=name)
        return value


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number within bounds."""

    least: int | None = None
    most: int | None = None

    def read(self, value: Any, name: str) -> int:
        if not isinstance(value, str) or not _INTEGER.fullmatch(value):
            raise bad_request(
                f"Invalid integer: {value}", code="parameter_invalid_integer", param=name
            )
        number = int(value)
        if self.least is not None and number < self.least:
            message = f"This value must be greater than or equal to {self.least}."
            raise bad_request(message, code="parameter_invalid_integer", param=name)
        if self.most is not None and number > self.most:
            message = f"This value must be less than or equal to {self.most}."
            raise bad_request(message, code="parameter_invalid_integer", param=name)
        return number


@dataclass(frozen=True, slots=True)
class Flag:
    """`true` or `false`."""

    def read(self, value: Any, name: str) -> bool:
        if value not in ("true", "false"):
            raise bad_request(f"Invalid boolean: {value}", param=name)
        return bool(value == "true")


@dataclass(frozen=True, slots=True)
class DecimalText:
    """A decimal number with at most 12 places, kept as the string it came as."""

    def read(self, value: Any, name: str) -> str:
        if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
            raise bad_request(f"Invalid decimal: {value}", param=name)
        return value


@dataclass(frozen=True, slots=True)
class Currency:
    """A three-letter lowercase ISO code."""

    def read(self, value: Any, name: str) -> str:
        if not isinstance(value, str) or not re.fullmatch("[A-Za-z]{3}", value):
            raise bad_request(f"Invalid currency: {value}", param=name)
        return value.lower()


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def read(self, value: Any, name: str) -> str:
        if value not in self.words:
            raise bad_request(f"Invalid {name}: must be one of {', '.join(self.words)}", param=name)
        return str(value)


@dataclass(frozen=True, slots=True)
class Metadata:
    """Up to 50 strings by key; an empty value unsets a key, an empty whole unsets all."""

    def read(self, value: Any, name: str) -> dict[str, str] | None:
        if value == "":
            return None
        if not isinstance(value, dict) or len(value) > 50:
            raise bad_request("Invalid hash: at most 50 keys", param=name)
        for key, text in value.items():
            if not isinstance(text, str) or len(key) > 40 or len(text) > 500:
                message = "Metadata keys have at most 40 and values at most 500 characters."
                raise bad_request(message, param=f"{name}[{key}]")
        return dict(value)


@dataclass(frozen=True, slots=True)
class Nested:
    """A hash with its own allow list."""

    shape: Shape

    def read(self, value: Any, name: str) -> Json:
        if value == "":
            return {}
        if not isinstance(value, dict):
            raise bad_request("Invalid object", param=name)
        return read(value, self.shape, within=name)


@dataclass(frozen=True, slots=True)
class ListOf:
    """An array, sent as `name[0]`, `name[1]` or `name[]`."""

    kind: Kind
    most: int = 250

    def read(self, value: Any, name: str) -> list[Any]:
        if value == "":
            return []
        if not isinstance(value, dict) or not all(key.isdigit() for key in value):
            raise bad_request("Invalid array", param=name)
        if len(value) > self.most:
            raise bad_request(f"Array may have at most {self.most} elements.", param=name)
        ordered = sorted(value, key=int)
        return [self.kind.read(value[key], f"{name}[{key}]") for key in ordered]


@dataclass(frozen=True, slots=True)
class Range:
    """A time stamp, or bounds `gt`, `gte`, `lt`, `lte`."""

    def read(self, value: Any, name: str) -> dict[str, int]:
        bounds = value if isinstance(value, dict) else {"gte": value, "lte": value}
        number = Integer()
        return read(bounds, {"gt": number, "gte": number, "lt": number, "lte": number}, within=name)


@dataclass(frozen=True, slots=True)
class Required:
    """Marks a parameter that must be sent and must not be empty."""

    kind: Kind

    def read(self, value: Any, name: str) -> Any:
        if value in ("", None):
            message = f"You passed an empty string for '{name}'."
            raise bad_request(message, code="parameter_invalid_empty", param=name)
        return self.kind.read(value, name)


def choice(*words: str) -> Choice:
    """Read one of `words`."""
    return Choice(words)


def read(values: Mapping[str, Any], shape: Shape, *, within: str = "") -> Json:
    """Return the typed parameters, or raise a 400 that names the first wrong one."""
    for name in values:
        if name not in shape:
            raise _unknown(_named(name, within))
    for name, kind in shape.items():
        if isinstance(kind, Required) and name not in values:
            full = _named(name, within)
            message = f"Missing required param: {full}."
            raise bad_request(message, code="parameter_missing", param=full)
    return {name: shape[name].read(value, _named(name, within)) for name, value in values.items()}


def _unknown(name: str) -> Refusal:
    if name == "payment_method_types":
        message = (
            "The parameter `payment_method_types` is no longer supported. Use dynamic payment "
            "methods instead."
        )
        return bad_request(message, code="payment_method_types_no_longer_supported", param=name)
    message = f"Received unknown parameter: {name}"
    return bad_request(message, code="parameter_unknown", param=name)


def _named(name: str, within: str) -> str:
    return f"{within}[{name}]" if within else name


TEXT = Text()
INTEGER = Integer()
FLAG = Flag()
DECIMAL = DecimalText()
CURRENCY = Currency()
METADATA = Metadata()
RANGE = Range()
EXPAND: Shape = {"expand": ListOf(TEXT)}
PAGE: Shape = {
    **EXPAND,
    "limit": Integer(1, 100),
    "starting_after": TEXT,
    "ending_before": TEXT,
}
PERIOD = Nested({"start": Required(INTEGER), "end": Required(INTEGER)})
ADDRESS = Nested(
    dict.fromkeys(("city", "line1", "line2", "postal_code", "state"), TEXT) | {"country": Country()}
)
