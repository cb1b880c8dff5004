"""What goes over the wire: bodies, headers, problems."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import msgspec

from accounts.domain import ids
from accounts.domain.problem_types import PROBLEM_TYPES
from metering.domain.account import Account
from metering.domain.burndown import Room, left_after, room
from metering.domain.decisions import Denied, Item
from metering.domain.remedies import Remedy
from metering.domain.spend_limits import spent
from metering.domain.spending import SpendLimit
from metering.domain.told import BalanceTold, Told
from metering.domain.windows import FOREVER
from metering.gate.catalogue import Catalogue
from metering.gate.wire import Problem

Header = tuple[bytes, bytes]
REPLAYED: Header = (b"farebox-replayed", b"true")
encode = msgspec.json.Encoder(uuid_format="canonical").encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
JSON: Header = (b"content-type", b"application/json")
PROBLEM_JSON: Header = (b"content-type", b"application/problem+json")
NO_STORE: Header = (b"cache-control", b"no-store")
DENIAL_BYTES_MAX = 4_000  # a proxy hands it on in headers, and has 4 or 8 kB for them
_STRUCTURED_MAX = 999_999_999_999_999  # the largest integer of a structured field (RFC 9651)
_PLAIN = re.compile("[A-Za-z0-9/_-]*")
_WINDOW_S = {
    "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800, "month": 2_592_000,
    "year": 31_536_000,
}  # fmt: skip


class HoldBody(msgspec.Struct):
    """The hold that an admitted check opened."""

    id: str
    expires_at: str | None


class AllowedBody(msgspec.Struct):
    """The body of an admitted check; `status` and `replayed` in a batch only."""

    allowed: bool
    decision: str
    mode: str
    customer: str
    plan: str
    balances: Sequence[BalanceTold]
    hold: HoldBody | msgspec.UnsetType = msgspec.UNSET
    value: str | msgspec.UnsetType = msgspec.UNSET
    status: int | msgspec.UnsetType = msgspec.UNSET
    replayed: bool | msgspec.UnsetType = msgspec.UNSET


Body = Mapping[str, Any] | AllowedBody | bytes  # bytes: as it goes over the wire


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A finished answer."""

    status: int
    body: Body | None
    headers: tuple[Header, ...] = (JSON,)

    def encoded(self) -> bytes:
        """The body's bytes; none where there is no body."""
        body = self.body
        if body is None:
            return b""
        return body if isinstance(body, bytes) else encode(body)


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """The answer of an admitted check before it is written."""

    told: Told
    customer_id: int
    key: str
    now: datetime
    replayed: bool = False

    def one_of_many(self) -> AllowedBody:
        """The answer in a batch: without headers, so that the body says what they would."""
        body = self.body()
        body.status = 200
        if self.replayed:
            body.replayed = True
        return body

    def body(self) -> AllowedBody:
        """The body; the same for a repeat."""
        told, customer_id, key = self.told, self.customer_id, self.key
        body = AllowedBody(
            True,  # noqa: FBT003
            owned("dec", customer_id, key),
            told.mode,
            ids.encode("cus", customer_id),
            told.plan,
            told.balances,
        )
        if told.expires_at is not None:
            body.hold = HoldBody(owned("hold", customer_id, key), told.expires_at)
        if told.value is not None:
            body.value = told.value
        return body

    def whole(self) -> Answer:
        """The answer to a call of its own."""
        body = self.body()
        headers = [JSON, *identity(self.customer_id, body.decision)]
        headers += limit_headers(self.told.balances, now=self.now)
        if self.replayed:
            headers.append(REPLAYED)
        return Answer(200, body, tuple(headers))


@lru_cache(maxsize=16_384)
def stamp(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC, with Z; None for never."""
    if moment is None or moment >= FOREVER:
        return None
    return moment.isoformat().replace("+00:00", "Z")


def digest_id(*parts: str) -> str:
    """A 128-bit digest of texts, in hexadecimal: the same texts always give the same id."""
    text = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def owned(prefix: str, customer_id: int, key: str) -> str:
    """The public id of what is kept under a customer's key."""
    return ids.encode_owned(prefix, customer_id=customer_id, key=int(key, 16))


def fingerprint(*content: Any) -> int:
    """A 64-bit digest of what a repeat of an id must equal."""
    text = _encode_sorted(content)
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big", signed=True)


def balance_told(measured: Room, name: str) -> BalanceTold:
    """One entry of `balances`."""
    terms = measured.terms
    return BalanceTold(
        name,
        terms.window,
        measured.granted,
        measured.used,
        measured.held,
        measured.remaining,
        measured.overage,
        terms.overage_limit if terms.over_is_billed else 0,
        terms.unlimited,
        stamp(measured.resets_at),
    )


def balance_told_after(before: Room, name: str, quantity: int) -> BalanceTold:
    """As `balance_told` when `quantity` more is used; see `left_after` for where that holds."""
    terms = before.terms
    remaining, overage = left_after(before, quantity)
    return BalanceTold(
        name,
        terms.window,
        before.granted,
        before.used + quantity,
        before.held,
        remaining,
        overage,
        terms.overage_limit if terms.over_is_billed else 0,
        False,  # noqa: FBT003
        stamp(before.resets_at),
    )


def balances_of(
    account: Account, meter_ids: Iterable[int], *, at: datetime, catalogue: Catalogue
) -> list[BalanceTold]:
    """The balances of some meters as they stand now."""
    return [
        balance_told(room(account, terms, at=at), catalogue.meters_by_id[meter_id].key)
        for meter_id in meter_ids
        for terms in account.terms.get(meter_id, ())
        if terms.active_at(at)
    ]


@lru_cache(maxsize=16_384)
def _seconds(text: str) -> float:
    """Unix time of an RFC 3339 instant."""
    return datetime.fromisoformat(text).timestamp()


@lru_cache(maxsize=65_536)
def _policy(meter: str, window: str, granted: int) -> tuple[str, bytes]:
    name = f'"{meter}.{window}"'
    span = _WINDOW_S.get(window)
    text = f"{name};q={min(granted, _STRUCTURED_MAX)}" + (f";w={span}" if span else "")
    return name, text.encode()


def limit_headers(
    balances: Sequence[BalanceTold], *, now: datetime, waits: bool = True
) -> list[Header]:
    """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-10).

    `t` is left out where waiting would not help.
    """
    policies, limits = [], []
    for balance in balances:
        if balance.unlimited:
            continue
        name, policy = _policy(balance.meter, balance.window, balance.granted)
        policies.append(policy)
        limit = f"{name};r={min(balance.remaining, _STRUCTURED_MAX)}"
        if balance.resets_at and waits:
            limit += f";t={max(int(_seconds(balance.resets_at) - now.timestamp()), 0)}"
        limits.append(limit)
    if not policies:
        return []
    return [
        (b"ratelimit-policy", b", ".join(policies)),
        (b"ratelimit", ", ".join(limits).encode()),
    ]


def identity(customer_id: int, decision: str) -> list[Header]:
    """Who was decided on, and the decision's id."""
    return [_customer(customer_id), (b"x-farebox-decision", decision.encode())]


@lru_cache(maxsize=65_536)
def _customer(customer_id: int) -> Header:
    return (b"x-farebox-customer", ids.encode("cus", customer_id).encode())


def problem(refused: Problem, *, base_url: str) -> Answer:
    """The problem+json answer of a refused request, which `about` completes."""
    body: dict[str, Any] = {
        "type": f"{base_url}/docs/problems/{refused.code}",
        "title": PROBLEM_TYPES[refused.code].title,
        "status": refused.status,
        "detail": refused.detail,
        "code": refused.code,
    }
    if refused.param is not None:
        body["param"] = refused.param
    headers: list[Header] = [PROBLEM_JSON, NO_STORE]
    if refused.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="farebox"'))
    if refused.status == 503:
        headers.append((b"retry-after", b"1"))
    if refused.allow is not None:
        headers.append((b"allow", refused.allow.encode()))
    return Answer(refused.status, body | refused.more, tuple(headers))


def about(answer: Answer, instance: str) -> Answer:
    """The same answer, whose problem says what it is about where it says nothing nearer."""
    body = answer.body
    if answer.status < 400 or not isinstance(body, dict) or "instance" in body:
        return answer
    return Answer(answer.status, body | {"instance": instance}, answer.headers)


def instance_of(path: str) -> str:
    """A path as a reference, which needs no escaping in JSON."""
    return path if _PLAIN.fullmatch(path) else quote(path, safe="/:@!$&()*+,;=")


def denial(
    account: Account,
    denied: Denied,
    ways_out: Sequence[Remedy],
    *,
    decision: str,
    base_url: str,
    now: datetime,
    catalogue: Catalogue,
) -> Answer:
    """The answer of a denied check: 402, 403 or 429, with the way out."""
    kind = PROBLEM_TYPES[denied.code]
    balances = [
        balance_told(each, catalogue.meters_by_id[each.terms.meter_id].key) for each in denied.rooms
    ]
    customer = ids.encode("cus", account.customer_id)
    body: dict[str, Any] = {
        "type": f"{base_url}/docs/problems/{denied.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": _sentence(denied, account=account, base_url=base_url, now=now),
        "instance": f"/api/v1/decisions/{decision}",
        "code": denied.code,
        "retry": denied.retry,
        "decision": decision,
        "customer": customer,
        "meter": denied.item.name,
        "requested": denied.item.quantity,
        "max_admissible": denied.max_admissible,
        "balances": balances,
        "remedies": [_remedy(each, base_url) for each in ways_out],
    }
    if len(balances) > 2 and len(encode(body)) > DENIAL_BYTES_MAX:
        # What stood in the way comes first; the rest as far as it fits.
        balances.sort(key=lambda balance: balance.meter != denied.item.name)
        while len(balances) > 1 and len(encode(body)) > DENIAL_BYTES_MAX:
            balances.pop()
    waits = denied.retry != "never"
    headers = [PROBLEM_JSON, NO_STORE, *identity(account.customer_id, decision)]
    headers += limit_headers(balances, now=now, waits=waits)
    until = next((each.at for each in ways_out if each.action == "wait"), None)
    if waits and until is not None:
        seconds = max(int((until - now).total_seconds()) + 1, 1)
        headers.append((b"retry-after", str(seconds).encode()))
    return Answer(kind.status, body, tuple(headers))


def _remedy(remedy: Remedy, base_url: str) -> dict[str, Any]:
    body: dict[str, Any] = {"action": remedy.action, "would_admit": remedy.would_admit}
    if remedy.plan is not None:
        body["plan"] = remedy.plan
    if remedy.path is not None:
        path = remedy.path
        body["href"] = path if "://" in path else base_url + quote(path)
    if remedy.at is not None:
        body["at"] = stamp(remedy.at)
    return body


def _sentence(denied: Denied, *, account: Account, base_url: str, now: datetime) -> str:
    item: Item = denied.item
    full = denied.full
    if full is None and denied.resets_at is not None and account.spend_limit is not None:
        return _limit_sentence(account, account.spend_limit, base_url=base_url, now=now)
    if full is None:
        return PROBLEM_TYPES[denied.code].when
    until = stamp(full.resets_at)
    reset = f" until {until}" if until else ""
    taken = f"{full.used:,} of {full.granted:,} {item.name} are used"
    held = f" and {full.held:,} held" if full.held else ""
    asked = f"; {item.quantity:,} were asked for." if item.quantity != 1 else "."
    return f"{taken}{held}{reset}{asked}"


def _limit_sentence(account: Account, limit: SpendLimit, *, base_url: str, now: datetime) -> str:
    """Whose limit it is, how much of it is left, and where it can be changed."""
    whose, where = "The operator's", "Only the operator can raise it."
    if limit.set_by == "customer":
        whose, where = "The customer's own", f"It can be changed at {base_url}/portal/spend-limit."
    taken, cap = (_major(each, limit) for each in (spent(account, at=now), limit.cap or 0))
    until = stamp(limit.period(now)[1])
    return f"{whose} spend limit is {cap} until {until}, of which {taken} is spent or held. {where}"


def _major(amount: int, limit: SpendLimit) -> str:
    """Minor units as people write them; which currency it is the customer knows."""
    whole, rest = divmod(abs(amount), 10**limit.exponent)
    sign = "-" if amount < 0 else ""
    return f"{sign}{whole:,}.{rest:0{limit.exponent}}" if limit.exponent else f"{sign}{whole:,}"
