"""Fields of metering's bodies and queries."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from accounts.api.fields import InstantField, instant
from accounts.api.serializing import StrictSerializer
from metering.domain.windows import FOREVER
from metering.models import Meter
from metering.queries.meters import meter_by_reference


@extend_schema_field({"type": "string", "description": "The meter's key, or in requests mtr_…"})
class MeterField(serializers.Field[Meter, Any, str, Any]):
    """A meter by key or `mtr_…`; answered as its key."""

    default_error_messages = {"meter_unknown": "There is no meter with this key."}

    def to_internal_value(self, data: Any) -> Meter:
        """Return the meter, or fail with `meter_unknown`."""
        meter = meter_by_reference(data) if isinstance(data, str) else None
        if meter is None:
            self.fail("meter_unknown")
        return meter

    def to_representation(self, value: Any) -> str:
        """The meter's key."""
        return str(value.key)


class SpanQuery(StrictSerializer):
    """`from` (included) and `to` (not included), RFC 3339."""

    def get_fields(self) -> dict[str, Any]:
        """Add the two members whose names Python keeps for itself."""
        return {
            **super().get_fields(),
            "from": InstantField(required=False),
            "to": InstantField(required=False),
        }

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse a span that ends before it begins."""
        if "from" in attrs and "to" in attrs and attrs["to"] <= attrs["from"]:
            raise ValidationError(
                {"to": [ErrorDetail("This must be after `from`.", code="invalid")]}
            )
        return attrs


def until(moment: datetime | None) -> str | None:
    """A time as the API writes it; null for never."""
    return None if moment is None or moment >= FOREVER else instant(moment)
