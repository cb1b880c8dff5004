"""What waits in the gate: calls, and what a batch does to one customer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from metering.domain.account import Account
from metering.domain.burndown import Deltas
from metering.gate.answers import Answer
from metering.gate.wire import CheckBody, EventBody, Problem, SettleBody

Action = Literal["settle", "release", "extend", "read"]


@dataclass(frozen=True, slots=True)
class Reference:
    """How a call names its customer; exactly one is set."""

    digest: bytes | None = None  # of an api key
    customer_id: int | None = None
    external_id: str | None = None


@dataclass(slots=True)
class Call:
    """One thing to decide for one customer. `answer` is set once; losses count lost versions."""

    gateway_key: bytes
    reference: Reference
    deadline: float  # of the event loop's clock
    done: asyncio.Future[None]
    answer: Answer | None = None
    failure: Problem | None = None  # what `answer` refuses, where it does
    losses: int = 0  # rounds in which its customer had changed
    interrupted: bool = False  # a write of it may or may not have come through
    weight: int = 1

    @property
    def look_up(self) -> bool:
        """Whether the call's ids are looked up first: after any round that came to nothing."""
        return self.losses > 0 or self.interrupted


@dataclass(slots=True, kw_only=True)
class Check(Call):
    """A peek, a consume or a hold."""

    body: CheckBody
    key: UUID | None = None  # digest of (source, id), where the mode needs one
    source: str = ""


@dataclass(slots=True, kw_only=True)
class Closing(Call):
    """A settle, release or extension of a hold, or the question how it stands."""

    action: Action
    customer_id: int
    key: UUID
    body: SettleBody | None = None
    ttl: int = 0


@dataclass(slots=True)
class Fate:
    """What became of one event of a batch."""

    outcome: Literal["accepted", "duplicate", "rejected"]
    refused: Problem | None = None


@dataclass(slots=True, kw_only=True)
class Reported(Call):
    """The events of one request that are about one customer, with their places in the request."""

    events: Sequence[tuple[int, EventBody, UUID]]
    fates: dict[int, Fate] = field(default_factory=dict)

    def refuse(self, refused: Problem) -> None:
        """Reject every event of the call for one reason."""
        for place, _event, _key in self.events:
            self.fates[place] = Fate("rejected", refused)


@dataclass(frozen=True, slots=True)
class Used:
    """An id that was used earlier in this batch."""

    fingerprint: int
    answer: Mapping[str, Any] | None
    closing: bool = False


@dataclass(slots=True)
class Work:
    """What one batch does to one customer, gathered while its calls are decided in order."""

    account: Account
    calls: list[Call] = field(default_factory=list)
    deltas: Deltas = field(default_factory=Deltas)
    events: list[dict[str, Any]] = field(default_factory=list)
    holds: list[dict[str, Any]] = field(default_factory=list)
    closings: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    expired: set[UUID] = field(default_factory=set)  # given back in this very batch
    denials: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    rollups: dict[tuple[int, int, str], list[Any]] = field(default_factory=dict)
    used: dict[UUID, Used] = field(default_factory=dict)
    new_ids: list[UUID] = field(default_factory=list)
    forget: bool = False  # the copy no longer tells all: read again before the next batch

    @property
    def writes(self) -> bool:
        """Whether the customer's version must rise."""
        return bool(self.events or self.holds or self.closings)

    def count(self, meter_id: int, *, at: datetime, dimensions: Mapping[str, str], n: int) -> None:
        """Add usage to the bucket of its hour, to be rolled up later."""
        start_s = int(at.timestamp()) // 3_600 * 3_600
        key = (meter_id, start_s, repr(sorted(dimensions.items())))
        bucket = self.rollups.setdefault(key, [dict(dimensions), 0, 0])
        bucket[1] += n
        bucket[2] += 1
