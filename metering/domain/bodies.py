"""How large a request to the gate may be: the gate refuses more, and an import sends no more."""

from __future__ import annotations

from typing import Final

BODY_MAX: Final = 8 * 1024 * 1024  # bytes
