"""What waits in the gate: calls, and what a batch does to one customer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import Literal

import msgspec

from metering.domain.account import Account, HoldState
from metering.domain.aggregates import Counted
from metering.domain.burndown import Deltas
from metering.domain.counting import event_origin
from metering.domain.meters import Aggregation, MeterTerms
from metering.domain.told import Told
from metering.gate.answers import Admitted, Answer
from metering.gate.rows import ClosingRow, DenialRow, EventRow, HoldRow
from metering.gate.wire import CheckBody, EventBody, ItemBody, Problem, SettleBody

Action = Literal["settle", "release", "extend", "read"]
BucketKey = tuple[int, int, tuple[tuple[str, str], ...]]  # meter id, hour in Unix time, dimensions


@dataclass(frozen=True, slots=True)
class Reference:
    """How a call names its customer; exactly one is set."""

    digest: bytes | None = None  # of an api key
    customer_id: int | None = None
    external_id: str | None = None


class Waiter:
    """Who waits until each of some calls has its answer."""

    __slots__ = ("_future", "_left")

    def __init__(self, calls: int) -> None:
        self._left = calls
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait(self) -> None:
        """Return when all calls are answered."""
        if self._left:
            await self._future

    def answered(self) -> None:
        """One call more has its answer."""
        self._left -= 1
        if not self._left and not self._future.done():  # done: who waited went away
            self._future.set_result(None)


class Call(msgspec.Struct, kw_only=True):
    """One thing to decide for one customer. `answer` is set once; losses count lost versions."""

    gateway_key: bytes
    reference: Reference
    deadline: float  # of time.monotonic (to find the loop and its clock costs a system call)
    waiter: Waiter | None = None  # who is told that it has its answer
    done: bool = False  # it has its answer
    waits: bool = False  # it is in a line (lines.py)
    since: float = 0.0  # when it began to wait
    answer: Answer | Admitted | None = None
    failure: Problem | None = None  # what `answer` refuses, where it does
    barred: bool = False  # its gateway may not ask, or not any more
    losses: int = 0  # rounds in which its customer had changed
    interrupted: bool = False  # a write of it may or may not have come through
    copy: Account | None = None  # its customer's, good as long as no copy changed since
    looked_up_in: Account | None = None  # the copy in which members are known for it
    weight: int = 1
    of_many: bool = False  # it came in a request of many items, and waits with its like
    queue: int | Reference = 0  # which line it waits in: the customer's, where that is known

    def finish(self) -> None:
        """Let the answer stand, and tell who waits."""
        self.done = True
        # Nothing holds itself: what only the collector frees piles up, and is paid for in pauses.
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter.answered()

    @property
    def look_up(self) -> bool:
        """Whether the call's ids are looked up first: after any round that came to nothing."""
        return self.losses > 0 or self.interrupted


class Check(Call, kw_only=True):
    """A peek, a consume or a hold."""

    body: CheckBody
    asked: Sequence[ItemBody]
    key: str | None = None  # digest of (source, id), where the mode needs one
    source: str = ""


class Closing(Call, kw_only=True):
    """A settle, release or extension of a hold, or the question how it stands."""

    action: Action
    customer_id: int
    key: str
    body: SettleBody | None = None
    ttl: int = 0


class Fate(msgspec.Struct):
    """What became of one event of a batch."""

    outcome: Literal["accepted", "duplicate", "rejected"]
    refused: Problem | None = None


ACCEPTED = Fate("accepted")
DUPLICATE = Fate("duplicate")
_outcome_of = attrgetter("outcome")


def outcomes(fates: Collection[Fate]) -> Mapping[str, int]:
    """How many events had each outcome; mostly all of them were accepted."""
    accepted = list(fates).count(ACCEPTED)
    if accepted == len(fates):
        return {"accepted": accepted}
    return Counter(map(_outcome_of, fates))


class Reported(Call, kw_only=True):
    """The events of one request that are about one customer, with their places in the request."""

    events: Sequence[tuple[int, EventBody, str]]
    plain: bool = False  # none of them says when it was, or names a hold
    fates: dict[int, Fate] = {}

    def refuse(self, refused: Problem) -> None:
        """Reject every event of the call for one reason."""
        fate = Fate("rejected", refused)
        for place, _event, _key in self.events:
            self.fates[place] = fate


class Used(msgspec.Struct, gc=False):
    """An id that was used earlier in this batch. `closing`: the body that a closing answered."""

    fingerprint: int
    told: Told | None = None
    closing: bytes | None = None


class Bucket(msgspec.Struct, gc=False):
    """What one batch counts in an hour of a meter, to be rolled up later."""

    dimensions: Mapping[str, str]
    quantity: int = 0
    events: int = 0
    latest_us: int | None = None
    members: set[str] | None = None


class Rare(msgspec.Struct):
    """What a batch does to few of its customers: holds, and denials."""

    holds: list[HoldRow] = []
    opened: dict[str, HoldState] = {}  # the same holds, as the copy will know them
    closings: dict[str, ClosingRow] = {}
    expired: set[str] = set()  # given back in this very batch
    denials: dict[str, DenialRow] = {}


class Work(msgspec.Struct):
    """What one batch does to one customer, gathered while its calls are decided in order."""

    account: Account
    calls: list[Call] = []
    deltas: Deltas = msgspec.field(default_factory=Deltas)
    events: list[EventRow] = []
    origins: dict[tuple[str, int | None, int | None], int] = {}
    rollups: dict[BucketKey, Bucket] = {}
    used: dict[str, Used] = {}
    new_ids: list[str] = []
    seldom: Rare | None = None  # see `rare`
    forget: bool = False  # the copy no longer tells all: read again before the next batch

    @property
    def writes(self) -> bool:
        """Whether the customer's version must rise."""
        seldom = self.seldom
        return bool(self.events or (seldom is not None and (seldom.holds or seldom.closings)))

    @property
    def rare(self) -> Rare:
        """Holds and denials: made when first asked for, because a batch has many customers."""
        if self.seldom is None:
            self.seldom = Rare()
        return self.seldom

    def origin(self, type_: str, gateway_id: int | None, api_key_id: int | None) -> int:
        """The number of what an event has in common with others, which is written with it."""
        key = type_, gateway_id, api_key_id
        found = self.origins.get(key)
        if found is None:
            found = self.origins[key] = event_origin(*key)
        return found

    def count(
        self, meter: MeterTerms, value: Counted, *, at: datetime, dimensions: Mapping[str, str]
    ) -> None:
        """Add what one event counts as to the bucket of its hour."""
        key = bucket_key(meter.id, at, dimensions)
        self.count_in(key, meter, value, at=at, dimensions=dimensions)

    def count_in(
        self,
        key: BucketKey,
        meter: MeterTerms,
        value: Counted,
        *,
        at: datetime,
        dimensions: Mapping[str, str],
    ) -> None:
        """Add what one event counts as to a bucket."""
        bucket = self.rollups.get(key)
        if bucket is None:
            bucket = self.rollups[key] = Bucket(dimensions)
        bucket.events += 1
        if meter.adds_up:
            bucket.quantity += value  # type: ignore[operator]  # members never add up
        else:
            _read(bucket, value, at, meter.aggregation)

    def settle_in(self) -> None:
        """Let the copy be what was written."""
        account = self.account
        account.version += 1
        for change in self.deltas.balances.values():
            if not change.stored:
                account.opened += 1
                if change.copy is not None:
                    change.copy.stored = True
        if self.seldom is not None:
            for closed in self.seldom.closings:
                account.holds.pop(closed, None)
            for opened, hold in self.seldom.opened.items():
                account.know_hold(opened, hold)


def _read(bucket: Bucket, value: Counted, at: datetime, aggregation: Aggregation) -> None:
    if aggregation is Aggregation.UNIQUE:
        if bucket.members is None:
            bucket.members = set()
        bucket.members.add(str(value))
        bucket.quantity = len(bucket.members)
        return
    reading = int(value)
    if aggregation is Aggregation.MAX:
        bucket.quantity = reading if bucket.events == 1 else max(bucket.quantity, reading)
        return
    at_us = microseconds(at)
    if bucket.latest_us is None or (bucket.latest_us, bucket.quantity) < (at_us, reading):
        bucket.latest_us, bucket.quantity = at_us, reading


def bucket_key(meter_id: int, at: datetime, dimensions: Mapping[str, str]) -> BucketKey:
    """The bucket in which a meter counts an event of that moment: its hour and dimensions."""
    return meter_id, _hour(at), tuple(sorted(dimensions.items())) if dimensions else ()


@lru_cache(maxsize=64)  # calls of one flight are of one moment
def _hour(at: datetime) -> int:
    return int(at.timestamp() // 3_600) * 3_600


def microseconds(at: datetime) -> int:
    """Unix time in whole microseconds."""
    return int(at.timestamp()) * 1_000_000 + at.microsecond


def nobody_named(call: Call) -> Problem:
    """What a call is told that names no customer there is."""
    if call.reference.digest is not None:
        return Problem("key_unknown", "No customer has this key.", param="key")
    if isinstance(call, Closing):
        return Problem("not_found", "There is no hold with this id.")
    return Problem("customer_unknown", "There is no such customer.", param="customer")
