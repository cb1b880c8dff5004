"""The tables of metering."""

from metering.models.facts import Denial, Hold, Rollup, UsageBatch, UsageEvent
from metering.models.faults import Fault
from metering.models.meters import Meter
from metering.models.rights import Balance, Entitlement, Grant, Offer, Standing, Window

__all__ = [
    "Balance",
    "Denial",
    "Entitlement",
    "Fault",
    "Grant",
    "Hold",
    "Meter",
    "Offer",
    "Rollup",
    "Standing",
    "UsageBatch",
    "UsageEvent",
    "Window",
]
