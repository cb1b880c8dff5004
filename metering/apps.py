"""Django's entry for the app that knows what happened and what may happen."""

from django.apps import AppConfig


class MeteringConfig(AppConfig):
    """Meters, events, rollups, entitlements, balances, holds, the gate."""

    name = "metering"
