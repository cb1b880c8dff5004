"""Who calls: the key in `Authorization: Bearer …`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from accounts.domain.keys import KeyMalformed, parse_key
from accounts.models import ApiKey, GatewayKey, OperatorKey
from accounts.queries import credential_by_text

CallerKind = Literal["operator", "customer", "member", "gateway"]


class KeyUnknownHere(Exception):
    """The key is well formed but was never issued here."""


class KeyRevoked(Exception):
    """The key was revoked, or its gateway disabled."""


class KeyExpired(Exception):
    """The key's time is over."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes this request. `id` is the public id of the key or member, and goes in the audit."""

    kind: CallerKind
    id: str
    scopes: frozenset[str] = frozenset()
    customer_id: int | None = None
    gateway_id: int | None = None


class BearerAuthentication(BaseAuthentication):
    """Sets `request.user` to None and `request.auth` to the Caller.

    No credential leaves the request anonymous (`request.auth` None); one that is malformed,
    unknown, revoked or expired raises, each its own error.
    """

    def authenticate(self, request: Request) -> tuple[None, Caller] | None:
        """Return the caller, nothing where no key came, or raise."""
        header = request.META.get("HTTP_AUTHORIZATION", "")
        if not header:
            return None
        scheme, _, text = header.partition(" ")
        if scheme.lower() != "bearer":
            raise KeyMalformed("The Authorization header is not of the form `Bearer fb_…`.")
        return None, caller_of(text.strip(), now=datetime.now(UTC))


def caller_of(text: str, *, now: datetime) -> Caller:
    """The caller with this key; raises KeyMalformed, KeyUnknownHere, KeyRevoked or KeyExpired."""
    key = credential_by_text(parse_key(text), text)
    if key is None:
        raise KeyUnknownHere("No such key was ever issued here.")
    disabled = isinstance(key, GatewayKey) and key.gateway.disabled_at is not None
    if key.revoked_at is not None or disabled:
        raise KeyRevoked("The gateway is disabled." if disabled else "The key was revoked.")
    if key.expires_at is not None and key.expires_at <= now:
        raise KeyExpired(f"The key expired at {key.expires_at:%Y-%m-%dT%H:%M:%SZ}.")
    match key:
        case OperatorKey():
            return Caller("operator", key.public_id, scopes=frozenset(key.scopes))
        case ApiKey():
            return Caller("customer", key.public_id, customer_id=key.customer_id)
        case GatewayKey():
            return Caller("gateway", key.public_id, gateway_id=key.gateway_id)
