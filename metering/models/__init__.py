"""The tables of metering."""

from metering.models.corrections import Backfill, Correction, EffectiveEvent, StagedEvent
from metering.models.facts import Denial, EventOrigin, Hold, UsageBatch, UsageEvent
from metering.models.faults import Fault
from metering.models.gateway_faults import GatewayFault
from metering.models.members import WindowMember
from metering.models.meters import Meter, MeterVersion
from metering.models.prices import PriceTable, PriceTableVersion, TokenPrice
from metering.models.quarantine import QuarantinedEvent
from metering.models.retention import HoldReach, RetiredMonth
from metering.models.rights import (
    Balance,
    Entitlement,
    Grant,
    Offer,
    Rollover,
    Standing,
    Window,
)
from metering.models.rollups import (
    DailyRollup,
    MonthlyRollup,
    Rollup,
    RollupMember,
    RollupReach,
)
from metering.models.tallies import Tally

__all__ = [
    "Backfill",
    "Balance",
    "Correction",
    "DailyRollup",
    "Denial",
    "EffectiveEvent",
    "Entitlement",
    "EventOrigin",
    "Fault",
    "GatewayFault",
    "Grant",
    "Hold",
    "HoldReach",
    "Meter",
    "MeterVersion",
    "MonthlyRollup",
    "Offer",
    "PriceTable",
    "PriceTableVersion",
    "QuarantinedEvent",
    "RetiredMonth",
    "Rollover",
    "Rollup",
    "RollupMember",
    "RollupReach",
    "StagedEvent",
    "Standing",
    "Tally",
    "TokenPrice",
    "UsageBatch",
    "UsageEvent",
    "Window",
    "WindowMember",
]
