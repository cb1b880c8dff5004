"""The gate and the customer of the gate's own tests."""

from __future__ import annotations

from tests.metering.gate.conftest import gate, world

__all__ = ["gate", "world"]
