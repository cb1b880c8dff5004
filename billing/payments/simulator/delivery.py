"""Webhooks: every event goes to every endpoint that wants it, signed, again and again until 2xx.

Several threads deliver at the same time, so events arrive in no particular order.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import threading
import time
from urllib.parse import urlsplit

from billing.payments.simulator.forms import Json, encode
from billing.payments.simulator.presenting import present
from billing.payments.simulator.store import Store

_LONGEST_WAIT = 3600.0
_ATTEMPTS = 30
_TIMEOUT = 20.0


def sign(body: bytes, secret: str, *, at: int) -> str:
    """Return the `Stripe-Signature` header for a body sent at Unix second `at`."""
    signed = str(at).encode() + b"." + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


class Courier:
    """Threads that deliver what is queued, with exponential backoff after a failure."""

    def __init__(self, store: Store, *, threads: int = 2, first_wait: float = 0.5) -> None:
        self._store = store
        self._first_wait = first_wait
        self._changed = threading.Condition()
        self._under_way: set[int] = set()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, name=f"courier-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        """Begin to deliver."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish what is under way and end the threads; the rest stays queued."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=_TIMEOUT)

    def wake(self) -> None:
        """Say that something was queued."""
        with self._changed:
            self._changed.notify_all()

    def hurry(self) -> None:
        """Make every delivery that waits for its next attempt due now."""
        self._store.run("update delivery set next_at = 0 where state = 'waiting'")
        self.wake()

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait until every queued event was delivered; return whether that came true."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._under_way or self._count("waiting"):
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def _run(self) -> None:
        while True:
            with self._changed:
                job = None
                while not self._stopping and (job := self._next()) is None:
                    self._changed.wait(self._patience())
                if self._stopping or job is None:
                    return
                self._under_way.add(job[0])
            try:
                self._deliver(*job)
            finally:
                with self._changed:
                    self._under_way.discard(job[0])
                    self._changed.notify_all()

    def _next(self) -> tuple[int, str, str, int] | None:
        rows = self._store.run(
            "select id, event, endpoint, attempts from delivery "
            "where state = 'waiting' and next_at <= ? order by next_at limit 50",
            time.time(),
        )
        for number, event, endpoint, attempts in rows:
            if number not in self._under_way:
                return int(number), str(event), str(endpoint), int(attempts)
        return None

    def _patience(self) -> float | None:
        rows = self._store.run(
            "select id, next_at from delivery where state = 'waiting' order by next_at limit 50"
        )
        waits = [next_at - time.time() for number, next_at in rows if number not in self._under_way]
        return max(0.01, min(waits)) if waits else None

    def _count(self, state: str) -> int:
        rows = self._store.run("select count(*) from delivery where state = ?", state)
        return int(rows[0][0])

    def _deliver(self, number: int, event_id: str, endpoint_id: str, attempts: int) -> None:
        event, endpoint = self._store.get(event_id), self._store.get(endpoint_id)
        if event is None or endpoint is None:
            self._store.run("delete from delivery where id = ?", number)
            return
        status = post(endpoint, encode(present(self._store, event)))
        delivered = 200 <= status < 300
        wait = min(self._first_wait * 2**attempts, _LONGEST_WAIT)
        state = "delivered" if delivered else "waiting"
        if not delivered and attempts + 1 >= _ATTEMPTS:
            state = "given_up"
        with self._store.unit():
            self._store.run(
                "update delivery set attempts = ?, next_at = ?, state = ?, last_status = ? "
                "where id = ?",
                attempts + 1,
                time.time() + wait,
                state,
                status,
                number,
            )
            if delivered and (stored := self._store.get(event_id)) is not None:
                stored["pending_webhooks"] = max(0, stored["pending_webhooks"] - 1)
                self._store.put(stored)


def post(endpoint: Json, body: bytes) -> int:
    """Send one signed webhook; return the status, 0 when nobody answered."""
    target = urlsplit(endpoint["url"])
    secure = target.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Stripe-Signature": sign(body, endpoint["_secret"], at=int(time.time())),
        "User-Agent": "Stripe/1.0 (simulator)",
    }
    path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    connection = kind(target.hostname or "127.0.0.1", target.port, timeout=_TIMEOUT)
    try:
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
