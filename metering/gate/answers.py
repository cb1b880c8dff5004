"""What goes over the wire: bodies, headers, problems."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

import msgspec

from accounts.domain import ids
from accounts.domain.problem_types import PROBLEM_TYPES
from metering.domain.account import Account
from metering.domain.burndown import Room, room
from metering.domain.decisions import Denied, Item
from metering.domain.remedies import Remedy
from metering.domain.windows import FOREVER
from metering.gate.catalogue import Catalogue
from metering.gate.wire import Problem

Header = tuple[bytes, bytes]
encode = msgspec.json.Encoder(uuid_format="canonical").encode
JSON: Header = (b"content-type", b"application/json")
PROBLEM_JSON: Header = (b"content-type", b"application/problem+json")
NO_STORE: Header = (b"cache-control", b"no-store")
DENIAL_BYTES_MAX = 4_000  # a proxy hands it on in headers, and has 4 or 8 kB for them
_STRUCTURED_MAX = 999_999_999_999_999  # the largest integer of a structured field (RFC 9651)
_WINDOW_S = {
    "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800, "month": 2_592_000,
    "year": 31_536_000,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer."""

    status: int
    body: Mapping[str, Any] | None
    headers: tuple[Header, ...] = (JSON,)

    def encoded(self) -> bytes:
        """The body's bytes; none where there is no body."""
        return b"" if self.body is None else encode(self.body)


def stamp(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC, with Z; None for never."""
    if moment is None or moment >= FOREVER:
        return None
    return moment.isoformat().replace("+00:00", "Z")


def digest_uuid(*parts: str) -> UUID:
    """A 128-bit digest of texts: the same texts always give the same id."""
    hashed = hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=16)
    return UUID(bytes=hashed.digest())


def fingerprint(*content: Any) -> int:
    """A 64-bit digest of what a repeat of an id must equal."""
    text = msgspec.json.encode(content, order="sorted")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big", signed=True)


def balance_body(measured: Room, name: str) -> dict[str, Any]:
    """One entry of `balances`."""
    terms = measured.terms
    return {
        "meter": name,
        "window": terms.window,
        "granted": measured.granted,
        "used": measured.used,
        "held": measured.held,
        "remaining": measured.remaining,
        "overage": measured.overage,
        "overage_limit": terms.overage_limit if terms.over_is_billed else 0,
        "unlimited": terms.unlimited,
        "resets_at": stamp(measured.resets_at),
    }


_ORDER = {
    name: place
    for place, name in enumerate(
        (
            "hold", "event", "items", "id", "state", "customer", "opened_at", "over_hold", "late",
            "balances", "meter", "window", "quantity", "granted", "used", "held", "remaining",
            "overage", "overage_limit", "unlimited", "resets_at", "expires_at",
        )
    )
}  # fmt: skip


def ordered(kept: Any) -> Any:
    """An answer as PostgreSQL kept it, with its members in the order of the first answer."""
    if isinstance(kept, Mapping):
        return {
            name: ordered(kept[name])
            for name in sorted(kept, key=lambda name: _ORDER.get(name, 99))
        }
    return [ordered(each) for each in kept] if isinstance(kept, list) else kept


def balances_of(
    account: Account, meter_ids: Iterable[int], *, at: datetime, catalogue: Catalogue
) -> list[dict[str, Any]]:
    """The balances of some meters as they stand now."""
    return [
        balance_body(room(account, terms, at=at), catalogue.meters_by_id[meter_id].key)
        for meter_id in meter_ids
        for terms in account.terms.get(meter_id, ())
        if terms.active_at(at)
    ]


def limit_headers(
    balances: Sequence[Mapping[str, Any]], *, now: datetime, waits: bool = True
) -> list[Header]:
    """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-10).

    `t` is left out where waiting would not help.
    """
    policies, limits = [], []
    for balance in balances:
        if balance["unlimited"]:
            continue
        name = f'"{balance["meter"]}.{balance["window"]}"'
        span = _WINDOW_S.get(balance["window"])
        granted = min(balance["granted"], _STRUCTURED_MAX)
        policies.append(f"{name};q={granted}" + (f";w={span}" if span else ""))
        limit = f"{name};r={min(balance['remaining'], _STRUCTURED_MAX)}"
        if balance["resets_at"] and waits:
            resets_at = datetime.fromisoformat(balance["resets_at"])
            limit += f";t={max(int((resets_at - now).total_seconds()), 0)}"
        limits.append(limit)
    if not policies:
        return []
    return [
        (b"ratelimit-policy", ", ".join(policies).encode()),
        (b"ratelimit", ", ".join(limits).encode()),
    ]


def identity(customer_id: int, decision: str) -> list[Header]:
    """Who was decided on, and the decision's id."""
    return [
        (b"x-farebox-customer", ids.encode("cus", customer_id).encode()),
        (b"x-farebox-decision", decision.encode()),
    ]


def problem(refused: Problem, *, base_url: str, instance: str | None = None) -> Answer:
    """The problem+json answer of a refused request."""
    body: dict[str, Any] = {
        "type": f"{base_url}/docs/problems/{refused.code}",
        "title": PROBLEM_TYPES[refused.code].title,
        "status": refused.status,
        "detail": refused.detail,
        "code": refused.code,
    }
    if instance is not None:
        body["instance"] = instance
    if refused.param is not None:
        body["param"] = refused.param
    headers: list[Header] = [PROBLEM_JSON, NO_STORE]
    if refused.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="farebox"'))
    if refused.status == 503:
        headers.append((b"retry-after", b"1"))
    return Answer(refused.status, body | refused.more, tuple(headers))


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
        balance_body(each, catalogue.meters_by_id[each.terms.meter_id].key) for each in denied.rooms
    ]
    customer = ids.encode("cus", account.customer_id)
    body: dict[str, Any] = {
        "type": f"{base_url}/docs/problems/{denied.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": _sentence(denied),
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
        balances.sort(key=lambda balance: balance["meter"] != denied.item.name)
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


def _sentence(denied: Denied) -> str:
    item: Item = denied.item
    full = denied.full
    if full is None:
        return PROBLEM_TYPES[denied.code].when
    until = stamp(full.resets_at)
    reset = f" until {until}" if until else ""
    taken = f"{full.used:,} of {full.granted:,} {item.name} are used"
    held = f" and {full.held:,} held" if full.held else ""
    asked = f"; {item.quantity:,} were asked for." if item.quantity != 1 else "."
    return f"{taken}{held}{reset}{asked}"
