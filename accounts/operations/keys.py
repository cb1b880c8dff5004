"""Issuing, rotating and revoking the keys of customers, gateways and operators.

Every function that makes a key returns the stored row and the key itself, which exists only in
that answer: what is kept is its digest. A revoked key is refused from the next call on, because
the version that guards it is raised in the same transaction.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TypeVar

from django.db import transaction

from accounts.domain.keys import SECRET_LENGTH, KeyKind, NewKey, new_key
from accounts.domain.scopes import checked_scopes
from accounts.models import ApiKey, Credential, GatewayKey, OperatorKey
from accounts.operations.auditing import audit
from accounts.operations.erasing import refuse_erased
from accounts.operations.versions import bump, bump_catalogue

OVERLAP_MAX_S = 30 * 86_400
C = TypeVar("C", ApiKey, GatewayKey, OperatorKey)


class KeyUnknown(Exception):
    """No key has this id."""


class KeyNotLive(Exception):
    """A key that is revoked, expired or already rotated cannot be rotated."""


class ExpiryPassed(Exception):
    """A key cannot be issued for a time that is over."""

    param = "expires_at"


class OverlapInvalid(Exception):
    """The overlap of a rotation lies outside what is allowed."""

    param = "overlap_seconds"


def issue_api_key(
    customer_id: int,
    *,
    name: str,
    expires_at: datetime | None = None,
    actor: str,
    now: datetime,
) -> tuple[ApiKey, NewKey]:
    """Give a customer a key; raises CustomerUnknown, CustomerErased or ExpiryPassed."""
    made = _mint(KeyKind.CUSTOMER)
    with transaction.atomic():
        bump(customer_id)
        refuse_erased(customer_id)
        key = ApiKey(customer_id=customer_id, name=name)
        _keep(key, made, expires_at=expires_at, actor=actor, action="api_key.issued", now=now)
    return key, made


def issue_gateway_key(
    gateway_id: int,
    *,
    name: str,
    expires_at: datetime | None = None,
    actor: str,
    now: datetime,
) -> tuple[GatewayKey, NewKey]:
    """Give a gateway a further key; raises ExpiryPassed."""
    made = _mint(KeyKind.GATEWAY)
    with transaction.atomic():
        bump_catalogue()
        key = GatewayKey(gateway_id=gateway_id, name=name)
        _keep(key, made, expires_at=expires_at, actor=actor, action="gateway_key.issued", now=now)
    return key, made


def issue_operator_key(
    *,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
    actor: str,
    now: datetime,
) -> tuple[OperatorKey, NewKey]:
    """Make a key for management; raises ScopeUnknown or ExpiryPassed."""
    made = _mint(KeyKind.OPERATOR)
    with transaction.atomic():
        key = OperatorKey(name=name, scopes=checked_scopes(scopes))
        _keep(key, made, expires_at=expires_at, actor=actor, action="operator_key.issued", now=now)
    return key, made


def rotate_api_key(
    key_id: int, *, overlap_seconds: int, actor: str, now: datetime
) -> tuple[ApiKey, NewKey]:
    """Replace a key; the old one works for `overlap_seconds` more (0: not one call more).

    The new key lives as long as the old one was meant to. A key is rotated once: what was made by
    the first rotation is rotated next. Raises KeyUnknown, KeyNotLive, CustomerErased or
    OverlapInvalid.
    """
    with transaction.atomic():
        bump(_unlocked(ApiKey, key_id).customer_id)
        old = _locked(ApiKey, key_id)
        refuse_erased(old.customer_id)
        if ApiKey.objects.filter(rotated_from=old).exists():
            raise KeyNotLive("The key was rotated before; rotate the key that replaced it.")
        new = ApiKey(customer_id=old.customer_id, name=old.name, rotated_from=old)
        return new, _replace(old, new, KeyKind.CUSTOMER, overlap_seconds, actor=actor, now=now)


def rotate_gateway_key(
    key_id: int, *, overlap_seconds: int, actor: str, now: datetime
) -> tuple[GatewayKey, NewKey]:
    """Replace a gateway's key, as `rotate_api_key` does a customer's."""
    with transaction.atomic():
        bump_catalogue()
        old = _locked(GatewayKey, key_id)
        new = GatewayKey(gateway_id=old.gateway_id, name=old.name)
        return new, _replace(old, new, KeyKind.GATEWAY, overlap_seconds, actor=actor, now=now)


def rotate_operator_key(
    key_id: int, *, overlap_seconds: int, actor: str, now: datetime
) -> tuple[OperatorKey, NewKey]:
    """Replace an operator's key, keeping its scopes, as `rotate_api_key` does a customer's."""
    with transaction.atomic():
        old = _locked(OperatorKey, key_id)
        new = OperatorKey(name=old.name, scopes=old.scopes)
        return new, _replace(old, new, KeyKind.OPERATOR, overlap_seconds, actor=actor, now=now)


def revoke_api_key(key_id: int, *, actor: str, now: datetime) -> ApiKey:
    """Refuse the key from the next call on; revoking twice changes nothing. Raises KeyUnknown."""
    with transaction.atomic():
        bump(_unlocked(ApiKey, key_id).customer_id)
        return _revoke(_locked(ApiKey, key_id), action="api_key.revoked", actor=actor, now=now)


def revoke_gateway_key(key_id: int, *, actor: str, now: datetime) -> GatewayKey:
    """Refuse the key from the next call on; revoking twice changes nothing. Raises KeyUnknown."""
    with transaction.atomic():
        bump_catalogue()
        key = _locked(GatewayKey, key_id)
        return _revoke(key, action="gateway_key.revoked", actor=actor, now=now)


def revoke_operator_key(key_id: int, *, actor: str, now: datetime) -> OperatorKey:
    """Refuse the key from the next call on; revoking twice changes nothing. Raises KeyUnknown."""
    with transaction.atomic():
        key = _locked(OperatorKey, key_id)
        return _revoke(key, action="operator_key.revoked", actor=actor, now=now)


def _mint(kind: KeyKind) -> NewKey:
    return new_key(kind, entropy=secrets.token_bytes(SECRET_LENGTH))


def _owner(key: Credential) -> int | None:
    return key.customer_id if isinstance(key, ApiKey) else None


def _subject(key: Credential) -> str:
    """Keys of a gateway are audited under the gateway, so that its story reads in one list."""
    return key.gateway.public_id if isinstance(key, GatewayKey) else key.public_id


def _keep(
    key: Credential,
    made: NewKey,
    *,
    expires_at: datetime | None,
    actor: str,
    action: str,
    now: datetime,
) -> None:
    if expires_at is not None and expires_at <= now:
        raise ExpiryPassed("The key would have expired before it was issued.")
    key.prefix, key.digest = made.prefix, made.digest
    key.created_at, key.expires_at = now, expires_at
    key.save(force_insert=True)
    changes: dict[str, object] = {"key": key.public_id, "name": key.name, "prefix": key.prefix}
    changes["expires_at"] = expires_at.isoformat() if expires_at else None
    if isinstance(key, OperatorKey):
        changes["scopes"] = list(key.scopes)
    audit(
        actor=actor,
        action=action,
        subject=_subject(key),
        customer_id=_owner(key),
        changes=changes,
        now=now,
    )


def _replace(
    old: C, new: C, kind: KeyKind, overlap_seconds: int, *, actor: str, now: datetime
) -> NewKey:
    if not 0 <= overlap_seconds <= OVERLAP_MAX_S:
        raise OverlapInvalid(f"An overlap is 0 to {OVERLAP_MAX_S:,} seconds.")
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
        raise KeyNotLive("The key is revoked or expired; issue a new one.")
    made = _mint(kind)
    lifetime = old.expires_at - old.created_at if old.expires_at else None
    action = f"{_noun(old)}.rotated"
    _keep(
        new, made, expires_at=now + lifetime if lifetime else None,
        actor=actor, action=action, now=now,
    )  # fmt: skip
    ends_at = now + timedelta(seconds=overlap_seconds)
    if overlap_seconds == 0:
        old.revoked_at = now
    elif old.expires_at is None or ends_at < old.expires_at:
        old.expires_at = ends_at
    old.save(update_fields=["revoked_at", "expires_at"])
    return made


def _revoke(key: C, *, action: str, actor: str, now: datetime) -> C:
    if key.revoked_at is not None:
        return key
    key.revoked_at = now
    key.save(update_fields=["revoked_at"])
    audit(
        actor=actor,
        action=action,
        subject=_subject(key),
        customer_id=_owner(key),
        changes={"key": key.public_id, "prefix": key.prefix},
        now=now,
    )
    return key


def _noun(key: Credential) -> str:
    match key:
        case ApiKey():
            return "api_key"
        case GatewayKey():
            return "gateway_key"
        case _:
            return "operator_key"


def _unlocked(model: type[C], key_id: int) -> C:
    key = model.objects.filter(pk=key_id).first()
    if key is None:
        raise KeyUnknown("There is no such key.")
    return key


def _locked(model: type[C], key_id: int) -> C:
    key = model.objects.select_for_update(of=("self",)).filter(pk=key_id).first()
    if key is None:
        raise KeyUnknown("There is no such key.")
    return key
