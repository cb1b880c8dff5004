"""Idempotency keys: the same request is answered as the first time, for a day."""

from __future__ import annotations

import hashlib
import json

from billing.payments.simulator.errors import idempotency_mismatch, key_in_use
from billing.payments.simulator.forms import Json
from billing.payments.simulator.store import Store

KEPT_SECONDS = 24 * 3600


class Keys:
    """Stored answers by key, and the keys whose first request is still under way."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._in_flight: dict[str, str] = {}

    def begin(self, key: str, fingerprint: str, *, now: int) -> tuple[int, Json] | None:
        """Return the stored (status, body), or None after marking the key as under way.

        Raises the 400 for a key used with other parameters and the 409 for a twin in flight.
        """
        under_way = self._in_flight.get(key)
        if under_way is not None:
            raise key_in_use(key) if under_way == fingerprint else idempotency_mismatch(key)
        rows = self._store.run(
            "select fingerprint, status, body from answer where key = ? and stored_at > ?",
            key,
            now - KEPT_SECONDS,
        )
        if not rows:
            self._in_flight[key] = fingerprint
            return None
        if rows[0][0] != fingerprint:
            raise idempotency_mismatch(key)
        return int(rows[0][1]), json.loads(rows[0][2])

    def keep(self, key: str, fingerprint: str, *, now: int, status: int, body: Json) -> None:
        """Store the answer that every repetition will get."""
        self._store.run(
            "insert or replace into answer values (?, ?, ?, ?, ?)",
            key,
            fingerprint,
            now,
            status,
            json.dumps(body),
        )

    def end(self, key: str) -> None:
        """Say that the first request was answered or abandoned."""
        self._in_flight.pop(key, None)

    def forget(self) -> None:
        """Drop what is under way; stored answers go with the store."""
        self._in_flight.clear()


def fingerprint(method: str, path: str, params: Json) -> str:
    """Digest of what must be equal for a key to be used again."""
    text = json.dumps([method, path, params], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
