"""`Idempotency-Key`: a POST that is repeated answers as it did the first time.

The row that claims a key is committed before the work begins; the answer is stored by the very
transaction that does the work, so that after a crash either both are there or neither. A claim
whose request died is taken over after a minute. Answers are kept for 31 days, the keys that some
of them show once included: whoever can read this table can read those keys, as they could in the
answer. They are never logged, and `accounts.forget_idempotent_requests` removes them in time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import models, transaction
from rest_framework.request import Request

from accounts.models import IdempotentRequest

HEADER = "Idempotency-Key"
KEY_MAX = 255
ABANDONED_AFTER = timedelta(seconds=60)


class IdempotencyKeyInvalid(Exception):
    """An Idempotency-Key is 1 to 255 printable ASCII characters."""

    param = HEADER


class IdempotencyKeyInUse(Exception):
    """A request with this key is under way."""


class IdempotencyKeyReused(Exception):
    """The key was used before with another request."""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What was answered the first time: the status and the body as it was sent."""

    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to do the work of this key; `row_id` and `taken_at` name the claim."""

    row_id: int
    taken_at: datetime

    def keep(self, *, status: int, text: str) -> None:
        """Store the answer, in the transaction of the work.

        Raises IdempotencyKeyInUse where this took longer than a minute and another request has
        taken over: then the work must not happen here.
        """
        if not self._mine().update(status=status, body=text):
            raise IdempotencyKeyInUse("Another request has taken over this Idempotency-Key.")

    def keep_refusal(self, *, status: int, text: str) -> None:
        """Store an answer that moved nothing, unless another request has taken over."""
        self._mine().update(status=status, body=text)

    def forget(self) -> None:
        """Give the key back: nothing was done."""
        self._mine().delete()

    def _mine(self) -> models.QuerySet[IdempotentRequest]:
        return IdempotentRequest.objects.filter(
            pk=self.row_id, created_at=self.taken_at, status__isnull=True
        )


def fingerprint(request: Request) -> bytes:
    """What must be the same for a repeat: method, address and body, byte by byte."""
    made = hashlib.sha256()
    for part in (str(request.method).encode(), request.get_full_path().encode(), request.body):
        made.update(len(part).to_bytes(8, "big") + part)
    return made.digest()


def request_key(*, caller: str, key: str) -> str:
    """One name for the key of this caller, in 64 characters."""
    return hashlib.sha256(f"{caller} {key}".encode()).hexdigest()


def claim(*, caller: str, key: str, fingerprint: bytes, now: datetime) -> Claim | KeptAnswer:
    """Claim the key for this caller, or return the answer kept for it.

    Raises IdempotencyKeyInvalid, IdempotencyKeyInUse or IdempotencyKeyReused.
    """
    if not 1 <= len(key) <= KEY_MAX or not key.isascii() or not key.isprintable():
        raise IdempotencyKeyInvalid("An Idempotency-Key is 1 to 255 printable ASCII characters.")
    with transaction.atomic():
        fresh, made = IdempotentRequest.objects.get_or_create(
            caller=caller, key=key, defaults={"fingerprint": fingerprint, "created_at": now}
        )
        if made:
            return Claim(fresh.pk, now)
        row = IdempotentRequest.objects.select_for_update().filter(pk=fresh.pk).first()
        if row is None:
            raise IdempotencyKeyInUse("A request with this Idempotency-Key has just ended.")
        if bytes(row.fingerprint) != fingerprint:
            raise IdempotencyKeyReused("This Idempotency-Key was used with another request.")
        if row.status is not None:
            return KeptAnswer(row.status, str(row.body))
        if row.created_at + ABANDONED_AFTER > now:
            raise IdempotencyKeyInUse("A request with this Idempotency-Key is under way.")
        row.created_at = now
        row.save(update_fields=["created_at"])
        return Claim(row.pk, now)
