"""Fields of billing's answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers


@extend_schema_field({"type": "string", "nullable": True})
class TextOrNull(serializers.Field[Any, Any, Any, Any]):
    """A read-only text made by a function of the whole thing; null for an empty one."""

    def __init__(self, compute: Callable[[Any], str | None], **options: Any) -> None:
        super().__init__(source="*", read_only=True, **options)
        self.compute = compute

    def to_representation(self, value: Any) -> str | None:
        """What the function makes of it."""
        return self.compute(value) or None
