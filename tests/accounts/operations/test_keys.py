"""Issuing, rotating and revoking keys."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from accounts.domain.keys import KeyKind, digest_of, parse_key
from accounts.domain.scopes import ScopeUnknown
from accounts.models import ApiKey, AuditEntry, CatalogueVersion, CustomerVersion, GatewayKey
from accounts.operations import keys
from accounts.operations.versions import CustomerUnknown
from tests.factories.accounts import ACTOR, NOW, a_customer, a_gateway, an_api_key, an_operator_key

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(days=1)


def catalogue_version() -> int:
    return CatalogueVersion.objects.get().version


def issued(kind: KeyKind, **members: Any) -> Any:
    """A stored key of this kind."""
    match kind:
        case KeyKind.CUSTOMER:
            return an_api_key(**members)[0]
        case KeyKind.OPERATOR:
            return an_operator_key("plans:read", **members)[0]
        case KeyKind.GATEWAY:
            gateway, _ = a_gateway()
            return keys.issue_gateway_key(gateway.id, name="x", actor=ACTOR, now=NOW, **members)[0]


ROTATE: dict[KeyKind, Callable[..., Any]] = {
    KeyKind.CUSTOMER: keys.rotate_api_key,
    KeyKind.GATEWAY: keys.rotate_gateway_key,
    KeyKind.OPERATOR: keys.rotate_operator_key,
}
REVOKE: dict[KeyKind, Callable[..., Any]] = {
    KeyKind.CUSTOMER: keys.revoke_api_key,
    KeyKind.GATEWAY: keys.revoke_gateway_key,
    KeyKind.OPERATOR: keys.revoke_operator_key,
}
each_kind = pytest.mark.parametrize("kind", list(KeyKind))


def test_only_the_digest_is_kept() -> None:
    key, made = an_api_key()
    key.refresh_from_db()
    assert bytes(key.digest) == digest_of(made.text)
    assert parse_key(made.text) is KeyKind.CUSTOMER
    assert made.text.startswith(key.prefix)
    assert made.text not in str(list(AuditEntry.objects.values()))
    assert CustomerVersion.objects.get(customer=key.customer).version == 1


def test_a_key_needs_a_customer_and_a_future() -> None:
    with pytest.raises(CustomerUnknown):
        keys.issue_api_key(1, name="x", actor=ACTOR, now=NOW)
    with pytest.raises(keys.ExpiryPassed):
        an_api_key(expires_at=NOW)
    assert not ApiKey.objects.exists()
    with pytest.raises(ScopeUnknown):
        an_operator_key("everything")


@each_kind
def test_a_rotated_key_works_for_its_overlap(kind: KeyKind) -> None:
    old = issued(kind)
    new, made = ROTATE[kind](old.id, overlap_seconds=60, actor=ACTOR, now=LATER)
    old.refresh_from_db()
    assert old.revoked_at is None
    assert old.expires_at == LATER + timedelta(seconds=60)
    assert new.expires_at is None
    assert bytes(new.digest) == made.digest != bytes(old.digest)
    assert new.name == old.name
    assert AuditEntry.objects.filter(action__endswith="rotated").count() == 1


@each_kind
def test_without_overlap_the_old_key_ends_at_once(kind: KeyKind) -> None:
    old = issued(kind, expires_at=NOW + timedelta(days=30))
    new, _ = ROTATE[kind](old.id, overlap_seconds=0, actor=ACTOR, now=LATER)
    old.refresh_from_db()
    assert old.revoked_at == LATER
    assert new.expires_at == LATER + timedelta(days=30)


@each_kind
def test_an_overlap_never_lengthens_a_life(kind: KeyKind) -> None:
    old = issued(kind, expires_at=LATER + timedelta(seconds=5))
    ROTATE[kind](old.id, overlap_seconds=60, actor=ACTOR, now=LATER)
    old.refresh_from_db()
    assert old.expires_at == LATER + timedelta(seconds=5)


@each_kind
def test_dead_keys_and_odd_overlaps_are_not_rotated(kind: KeyKind) -> None:
    expired = issued(kind, expires_at=LATER)
    revoked = issued(kind)
    REVOKE[kind](revoked.id, actor=ACTOR, now=NOW)
    for key in (expired, revoked):
        with pytest.raises(keys.KeyNotLive):
            ROTATE[kind](key.id, overlap_seconds=60, actor=ACTOR, now=LATER)
    live = issued(kind)
    for seconds in (-1, keys.OVERLAP_MAX_S + 1):
        with pytest.raises(keys.OverlapInvalid):
            ROTATE[kind](live.id, overlap_seconds=seconds, actor=ACTOR, now=LATER)
    with pytest.raises(keys.KeyUnknown):
        ROTATE[kind](1, overlap_seconds=0, actor=ACTOR, now=LATER)
    assert not AuditEntry.objects.filter(action__endswith="rotated").exists()


def test_a_customers_key_is_rotated_once() -> None:
    old, _ = an_api_key()
    new, _ = keys.rotate_api_key(old.id, overlap_seconds=60, actor=ACTOR, now=LATER)
    assert new.rotated_from == old
    with pytest.raises(keys.KeyNotLive, match="replaced"):
        keys.rotate_api_key(old.id, overlap_seconds=60, actor=ACTOR, now=LATER)
    assert ApiKey.objects.count() == 2


@each_kind
def test_revoking_twice_is_once(kind: KeyKind) -> None:
    key = issued(kind)
    for moment in (NOW, LATER):
        assert REVOKE[kind](key.id, actor=ACTOR, now=moment).revoked_at == NOW
    assert AuditEntry.objects.filter(action__endswith="revoked").count() == 1
    with pytest.raises(keys.KeyUnknown):
        REVOKE[kind](1, actor=ACTOR, now=NOW)


def test_every_change_raises_what_guards_it() -> None:
    customer = a_customer()
    key, _ = an_api_key(customer)
    new, _ = keys.rotate_api_key(key.id, overlap_seconds=0, actor=ACTOR, now=NOW)
    keys.revoke_api_key(new.id, actor=ACTOR, now=NOW)
    assert CustomerVersion.objects.get(customer=customer).version == 3
    gateway, _ = a_gateway()
    before = catalogue_version()
    gateway_key = GatewayKey.objects.get(gateway=gateway)
    fresh, _ = keys.rotate_gateway_key(gateway_key.id, overlap_seconds=0, actor=ACTOR, now=NOW)
    keys.revoke_gateway_key(fresh.id, actor=ACTOR, now=NOW)
    assert catalogue_version() == before + 2
