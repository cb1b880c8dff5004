"""The copy of one customer's metering state that decisions are made over.

Everything here is guarded by the customer's version: a copy is true for exactly one version, and
what was decided over it is written only where that version still stands. Decisions change the
copy in memory; a copy whose write was refused is thrown away and read again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from metering.domain.spending import Curve, SpendLimit
from metering.domain.windows import anchored_window

HOLDS_KNOWN = 1_000
MEMBERS_KNOWN = 10_000
OPENED_KNOWN = 128
BalanceKey = tuple[int, str, datetime]  # meter id, window unit, window start


@dataclass(frozen=True, slots=True)
class Terms:
    """What an entitlement allows. Quantities in the meter's unit.

    `blended`: what is included instead in the window that ends at `blended_until`.
    """

    meter_id: int
    window: str
    anchor_at: datetime
    included: int
    unlimited: bool
    over_is_billed: bool
    overage_limit: int | None
    starts_at: datetime
    ends_at: datetime | None
    curve: Curve | None = None  # what overage costs; read only where there is a spend limit
    blended: int = 0
    blended_until: datetime | None = None

    def active_at(self, moment: datetime) -> bool:
        """Whether the right stands at that moment."""
        return self.starts_at <= moment and (self.ends_at is None or moment < self.ends_at)

    def window_at(self, moment: datetime) -> tuple[datetime, datetime]:
        """The window in which something of that moment counts."""
        return anchored_window(self.anchor_at, unit=self.window, at=moment)

    def included_until(self, end_at: datetime) -> int:
        """What is included in the window that ends then."""
        return self.blended if end_at == self.blended_until else self.included

    def counts(self, window: tuple[datetime, datetime]) -> bool:
        """Whether usage of that window is counted: the right stood in some part of it.

        So a window is counted whole or not at all, and used = Σ events of the window.
        """
        start_at, end_at = window
        return end_at > self.starts_at and (self.ends_at is None or start_at < self.ends_at)


@dataclass(frozen=True, slots=True)
class Feature:
    """A boolean (value None) or static entitlement."""

    key: str
    value: str | None
    starts_at: datetime
    ends_at: datetime | None

    def active_at(self, moment: datetime) -> bool:
        """Whether the right stands at that moment."""
        return self.starts_at <= moment and (self.ends_at is None or moment < self.ends_at)


@dataclass(slots=True)
class Balance:
    """Usage of one meter in one window; see metering.models.Balance for the columns' meaning."""

    end_at: datetime
    used: int = 0
    grant_used: int = 0
    held: int = 0
    grant_held: int = 0
    stored: bool = False  # whether the database has the row
    latest_at: datetime | None = None  # of the reading in `used`, where a meter keeps the latest


@dataclass(slots=True)
class Grant:
    """Quantity given beside the plan."""

    id: int
    meter_id: int
    quantity: int
    used: int
    held: int
    priority: int
    effective_at: datetime
    expires_at: datetime | None

    def available_at(self, moment: datetime) -> int:
        """What can still be burned then; 0 outside its time."""
        if moment < self.effective_at or (
            self.expires_at is not None and moment >= self.expires_at
        ):
            return 0
        return self.quantity - self.used - self.held


@dataclass(frozen=True, slots=True)
class KeyState:
    """A customer's api key, as far as a decision needs it."""

    id: int
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class HoldState:
    """A hold as it stands. `items`: {"<meter id>": quantity}; `answer`, `closing`: as kept."""

    state: str
    items: Mapping[str, int]
    allocation: Mapping[str, Any]
    properties: dict[str, Any] | None
    opened_at: datetime
    expires_at: datetime
    source: str
    external_id: str
    fingerprint: int
    answer: str
    api_key_id: int | None
    closing: str | None = None
    closing_fingerprint: int | None = None


class CountedIn(NamedTuple):
    """Where what is used of a meter counts, from one moment to before another."""

    start_at: datetime
    end_at: datetime
    balances: Sequence[tuple[BalanceKey, Balance]]


@dataclass(slots=True)
class Account:
    """One customer at one version."""

    customer_id: int
    version: int
    external_id: str | None = None
    suspended: bool = False
    currency: str = "usd"  # in which it is offered plans
    plan_key: str = ""
    plan_name: str = ""
    sold: bool = False  # billing has said something of this customer
    deny_code: str = ""
    deny_at: datetime | None = None
    invoice_url: str = ""
    terms: dict[int, list[Terms]] = field(default_factory=dict)
    features: dict[str, Feature] = field(default_factory=dict)
    grants: dict[int, list[Grant]] = field(default_factory=dict)  # in the order of burning
    balances: dict[BalanceKey, Balance] = field(default_factory=dict)
    keys: dict[bytes, KeyState] = field(default_factory=dict)
    next_expiry_at: datetime | None = None  # of the open holds
    # Open holds that are known without looking; others may be there.
    holds: dict[str, HoldState] = field(default_factory=dict)
    balances_since: datetime | None = None  # windows that ended before were not read
    spend_limit: SpendLimit | None = None  # almost nobody has one
    agreed: Sequence[Mapping[str, Any]] = ()  # as metering.domain.agreed writes it; for remedies
    # Of unique meters: members known to be counted in a window. Those of a call are looked up
    # before it is decided, so that what is not here was not seen.
    members: dict[BalanceKey, set[str]] = field(default_factory=dict)
    windows: dict[tuple[int, str], tuple[datetime, datetime]] = field(
        default_factory=dict, compare=False
    )  # the window last asked for, by meter and unit: calls come in the order of time

    counting: dict[int, CountedIn] = field(default_factory=dict, init=False, compare=False)
    opened: int = field(default=0, compare=False)  # balances that are new since the copy was read

    def know_hold(self, key: str, hold: HoldState) -> None:
        """Keep an open hold in mind, so that its closing needs no look; not without bound."""
        if len(self.holds) >= HOLDS_KNOWN:
            del self.holds[next(iter(self.holds))]
        self.holds[key] = hold

    @property
    def remembers_too_many(self) -> bool:
        """Whether so many windows began since it was read that most of the copy is of the past."""
        return self.opened >= OPENED_KNOWN

    @property
    def knows_too_many(self) -> bool:
        """Whether more members are remembered than are worth their memory."""
        return sum(map(len, self.members.values())) > MEMBERS_KNOWN

    def without_members(self) -> Account:
        """The account with nobody remembered: whoever is counted next is looked up."""
        return replace(self, members={})

    def window(self, terms: Terms, *, at: datetime) -> tuple[datetime, datetime]:
        """The window of a right that contains `at`; as `terms.window_at`, but remembered."""
        key = (terms.meter_id, terms.window)
        found = self.windows.get(key)
        if found is None or not found[0] <= at < found[1]:
            found = self.windows[key] = terms.window_at(at)
        return found

    def balance(
        self, terms: Terms, *, window: tuple[datetime, datetime]
    ) -> tuple[BalanceKey, Balance]:
        """The balance of a window; a fresh one where nothing was used yet."""
        start_at, end_at = window
        key = (terms.meter_id, terms.window, start_at)
        found = self.balances.get(key)
        if found is None:
            found = self.balances[key] = Balance(end_at)
        return key, found

    def counting_at(self, meter_id: int, at: datetime) -> Sequence[tuple[BalanceKey, Balance]]:
        """The balances in which what is used of a meter at that moment counts.

        Remembered until a window is over, or a moment of another one comes.
        """
        found = self.counting.get(meter_id)
        if found is not None and found.start_at <= at < found.end_at:
            return found.balances
        rights = self.terms.get(meter_id)
        if not rights:
            return ()
        windows = [self.window(terms, at=at) for terms in rights]
        balances = [
            self.balance(terms, window=window)
            for terms, window in zip(rights, windows, strict=True)
            if terms.counts(window)
        ]
        start_at, end_at = max(start for start, _ in windows), min(end for _, end in windows)
        self.counting[meter_id] = CountedIn(start_at, end_at, balances)
        return balances

    def without_holds(self) -> Account:
        """The account when every hold is released."""
        return replace(
            self,
            balances={
                key: replace(each, held=0, grant_held=0) for key, each in self.balances.items()
            },
            grants={
                meter_id: [replace(each, held=0) for each in grants]
                for meter_id, grants in self.grants.items()
            },
        )
