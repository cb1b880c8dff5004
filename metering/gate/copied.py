"""Rows that the gate's statements read, as copies of customers and as what ids were used for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from metering.domain.account import Account, Balance, Feature, Grant, HoldState, KeyState, Terms
from metering.domain.burndown import burning_order
from metering.domain.spending import Curve, SpendLimit
from metering.gate.catalogue import moment

_decode = msgspec.json.decode


@dataclass(frozen=True, slots=True)
class Found:
    """What an id was used for: a hold, an event, or both (a settled hold)."""

    hold: HoldState | None
    event_fingerprint: int | None
    event_answer: str | None
    event_found: bool

    def first_answer(self) -> tuple[int | None, str | None]:
        """The fingerprint of the body that the id came with, and what it was told, as kept."""
        if self.hold is not None:
            return self.hold.fingerprint, self.hold.answer
        return self.event_fingerprint, self.event_answer


def account_of(row: Sequence[Any], since: datetime) -> Account:
    (id_, version, external_id, suspended, sold, plan_key, plan_name, deny_code, deny_at,
     invoice_url, rights, grants, balances, keys, next_expiry_at, spend_limit,
     currency, agreed) = row  # fmt: skip
    account = Account(
        customer_id=id_,
        version=version,
        external_id=external_id,
        suspended=suspended,
        currency=currency,
        sold=sold,
        plan_key=plan_key,
        plan_name=plan_name,
        deny_code=deny_code,
        deny_at=moment(deny_at),
        invoice_url=invoice_url,
        next_expiry_at=moment(next_expiry_at),
        balances_since=since,
        spend_limit=SpendLimit.from_json(_decode(spend_limit)) if spend_limit else None,
        agreed=_decode(agreed) if agreed else (),
    )
    for right in _decode(rights or "[]"):
        _add_right(account, right)
    _add_grants(account, _decode(grants or "[]"))
    for meter_id, window, start, end, used, grant_used, held, grant_held, latest in _decode(
        balances or "[]"
    ):
        start_at, end_at = moment(start), moment(end)
        assert start_at is not None
        assert end_at is not None
        account.balances[meter_id, window, start_at] = Balance(
            end_at, used, grant_used, held, grant_held, stored=True, latest_at=moment(latest)
        )
    for digest, key_id, expires, revoked in _decode(keys or "[]"):
        account.keys[bytes.fromhex(digest)] = KeyState(key_id, moment(expires), moment(revoked))
    return account


def _add_right(account: Account, right: Sequence[Any]) -> None:
    (meter_id, feature, kind, value, window, anchor, included, unlimited, bills, overage_limit,
     starts, ends, curve, blended, blended_until) = right  # fmt: skip
    starts_at, anchor_at = moment(starts), moment(anchor)
    assert starts_at is not None
    assert anchor_at is not None
    if kind == "metered":
        terms = Terms(
            meter_id=meter_id,
            window=window,
            anchor_at=anchor_at,
            included=included,
            unlimited=unlimited,
            over_is_billed=bills,
            overage_limit=overage_limit,
            starts_at=starts_at,
            ends_at=moment(ends),
            curve=Curve.from_json(curve) if curve else None,
            blended=blended or 0,
            blended_until=moment(blended_until),
        )
        account.terms.setdefault(meter_id, []).append(terms)
    else:
        shown = value if kind == "static" else None
        account.features[feature] = Feature(feature, shown, starts_at, moment(ends))


def _add_grants(account: Account, stored: Sequence[Sequence[Any]]) -> None:
    for id_, meter_id, quantity, used, held, priority, effective, expires in stored:
        effective_at = moment(effective)
        assert effective_at is not None
        account.grants.setdefault(meter_id, []).append(
            Grant(
                id=id_,
                meter_id=meter_id,
                quantity=quantity,
                used=used,
                held=held,
                priority=priority,
                effective_at=effective_at,
                expires_at=moment(expires),
            )
        )
    for meter_id, grants in account.grants.items():
        account.grants[meter_id] = burning_order(grants)


def found_of(row: Sequence[Any]) -> Found:
    hold = None
    if row[2] is not None:
        hold = HoldState(
            state=row[2],
            items=_decode(row[3]),
            allocation=_decode(row[4]),
            properties=_decode(row[5]) if row[5] else None,
            opened_at=instant_of(row[6]),
            expires_at=instant_of(row[7]),
            source=row[8],
            external_id=row[9],
            fingerprint=row[10],
            answer=row[11],
            api_key_id=row[12],
            closing=row[13],
            closing_fingerprint=row[14],
        )
    return Found(hold, row[15], row[16], row[17])


def instant_of(microseconds: int) -> datetime:
    found = moment(microseconds)
    assert found is not None
    return found
