"""Looking up who is who."""

from __future__ import annotations

import hmac

from accounts.domain import ids
from accounts.domain.keys import KeyKind, digest_of
from accounts.models import ApiKey, Customer, Gateway, GatewayKey, OperatorKey

EXTERNAL_ID_MAX = 200


def customer_by_reference(text: str) -> Customer | None:
    """The customer with this public id (`cus_…`) or this external id; none for anything else."""
    if text.startswith(f"{Customer.PREFIX}_"):
        try:
            return Customer.objects.filter(pk=ids.decode(Customer.PREFIX, text)).first()
        except ids.IdMalformed:
            return None
    if not text or len(text) > EXTERNAL_ID_MAX or "\x00" in text or not _encodable(text):
        return None
    return Customer.objects.filter(external_id=text).first()


def gateway_by_reference(text: str) -> Gateway | None:
    """The gateway with this public id (`gw_…`); none for anything else."""
    try:
        return Gateway.objects.filter(pk=ids.decode(Gateway.PREFIX, text)).first()
    except ids.IdMalformed:
        return None


def credential_by_text(kind: KeyKind, text: str) -> ApiKey | GatewayKey | OperatorKey | None:
    """The stored key whose digest is that of the text, expired and revoked ones included.

    The index finds it; the comparison that counts takes the same time wherever they differ.
    """
    digest = digest_of(text)
    found: ApiKey | GatewayKey | OperatorKey | None
    match kind:
        case KeyKind.CUSTOMER:
            found = ApiKey.objects.filter(digest=digest).select_related("customer").first()
        case KeyKind.GATEWAY:
            found = GatewayKey.objects.filter(digest=digest).select_related("gateway").first()
        case KeyKind.OPERATOR:
            found = OperatorKey.objects.filter(digest=digest).first()
    if found is None or not hmac.compare_digest(bytes(found.digest), digest):
        return None
    return found


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
