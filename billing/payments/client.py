"""The one connection to Stripe: pinned API version, time limits, our own rate, the circuit breaker.

JSON in, JSON out. What a call may look like is decided by its callers; a POST carries its
idempotency key always, a GET can be repeated freely.
"""

from __future__ import annotations

import functools
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import stripe
from django.conf import settings

from billing.domain.steps import Outcome, classify

Json = dict[str, Any]

API_VERSION: Final = stripe.api_version  # what this SDK was made for: shapes follow it
TIMEOUT_S: Final = 20
NETWORK_RETRIES: Final = 2
# Stripe allows 100/s in all and 25/s an endpoint: stay under both, there may be other processes.
TOTAL_PER_S: Final = 80
ENDPOINT_PER_S: Final = 20
BREAK_S: Final = 60
# What the local simulator is called with where no key is configured.
SIMULATOR_KEY: Final = "sk_test_farebox_simulator"

stripe.enable_telemetry = False  # nothing about this machine leaves it


class StripeNotConfigured(Exception):
    """Neither STRIPE_API_KEY nor FAREBOX_STRIPE_API_BASE is set: there is nobody to call."""


class LiveKeyInDebug(Exception):
    """A live key together with FAREBOX_DEBUG: real cards must not be charged from there."""


class StripeStopped(Exception):
    """Our key or account is refused; no call is made until the circuit breaker closes again."""


class StripeUnreachable(Exception):
    """A read got no answer, a 429 or a 5xx: the same read may succeed later."""


class StripeRefused(Exception):
    """A read was answered with an error that repeating does not mend."""

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a POST. `status` is None where nothing came; `body` is the object, or
    the whole error document."""

    status: int | None
    body: Json
    error_type: str | None = None
    code: str | None = None
    decline_code: str | None = None
    message: str = ""
    replayed: bool = False
    at: datetime | None = None  # Stripe's clock


class Breaker:
    """Open for a minute after Stripe has refused our key: a thousand rows are not worth trying."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open_until = float("-inf")
        self._reason = ""

    def open(self, reason: str) -> None:
        self._open_until = self._clock() + BREAK_S
        self._reason = reason

    def close(self) -> None:
        self._open_until = float("-inf")

    def check(self) -> None:
        """Raises StripeStopped while open."""
        if self._clock() < self._open_until:
            raise StripeStopped(self._reason)


class Bucket:
    """A token bucket of one second's worth: `take` says how long to wait before the call."""

    def __init__(self, per_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._clock = clock
        self._tokens = float(per_s)
        self._at = clock()
        self._lock = threading.Lock()

    def take(self) -> float:
        """Take one; the seconds to wait until it is really there (0 while any are left)."""
        with self._lock:
            now = self._clock()
            self._tokens = min(self._per_s, self._tokens + (now - self._at) * self._per_s)
            self._at = now
            self._tokens -= 1
            return max(0.0, -self._tokens / self._per_s)


class Limiter:
    """At most TOTAL_PER_S calls, and ENDPOINT_PER_S to one endpoint, from this process."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._total = Bucket(TOTAL_PER_S)
        self._endpoints: dict[str, Bucket] = {}

    def wait(self, endpoint: str) -> None:
        bucket = self._endpoints.setdefault(endpoint, Bucket(ENDPOINT_PER_S))
        pause = max(self._total.take(), bucket.take())
        if pause > 0:
            time.sleep(pause)


breaker = Breaker()
_limiter = Limiter()


def transport() -> stripe.HTTPClient:
    """What carries the bytes."""
    return stripe.RequestsClient(timeout=TIMEOUT_S)


def api_key() -> str:
    """The key to call with. Raises StripeNotConfigured, LiveKeyInDebug."""
    key = settings.STRIPE_API_KEY or (SIMULATOR_KEY if settings.STRIPE_API_BASE else "")
    if not key:
        raise StripeNotConfigured(
            "Set STRIPE_API_KEY, or FAREBOX_STRIPE_API_BASE to the local simulator."
        )
    if settings.DEBUG and is_live(key):
        raise LiveKeyInDebug("STRIPE_API_KEY is a live key; FAREBOX_DEBUG must be off with it.")
    return key


def configured() -> bool:
    """Whether there is a Stripe, or a simulated one, to call."""
    return bool(settings.STRIPE_API_KEY or settings.STRIPE_API_BASE)


def is_live(key: str) -> bool:
    return key.startswith(("sk_live_", "rk_live_"))


def stripe_client() -> stripe.StripeClient:
    """The client for the present settings, made once per process."""
    return _connect(api_key(), settings.STRIPE_API_BASE)


@functools.lru_cache(maxsize=4)
def _connect(key: str, base: str) -> stripe.StripeClient:
    return stripe.StripeClient(
        key,
        stripe_version=API_VERSION,
        base_addresses={"api": base} if base else {},
        max_network_retries=NETWORK_RETRIES,
        http_client=transport(),
    )


def forget() -> None:
    """Drop the connections and what was counted, as a fresh process would begin."""
    _connect.cache_clear()
    _limiter.reset()
    breaker.close()


def post(path: str, *, params: Mapping[str, object], key: str) -> Answer:
    """POST with an idempotency key; every answer, also none, is returned as an Answer.

    Raises StripeStopped where the account or key is refused (and opens the breaker): such a
    call was not executed. Must not be called inside a transaction.
    """
    answer = _call("post", path, params=params, key=key)
    _stop_if_refused(answer)
    return answer


def read(path: str, **params: object) -> Json:
    """GET one object. Raises StripeUnreachable, StripeRefused, StripeStopped."""
    return _body(_call("get", path, params=params, key=None))


def delete(path: str) -> None:
    """DELETE one object; gone already is as good. Raises as `read`."""
    try:
        _body(_call("delete", path, params={}, key=None))
    except StripeRefused as refused:
        if refused.status != 404:
            raise


def account() -> tuple[Json, datetime | None]:
    """The account, and what Stripe's clock said with it. Raises as `read`."""
    answer = _call("get", "/v1/account", params={}, key=None)
    return _body(answer), answer.at


def read_all(path: str, **params: object) -> Iterator[Json]:
    """GET every object of a list, page by page, newest first as Stripe lists them."""
    page = read(path, limit=100, **params)
    while True:
        yield from page["data"]
        if not page["has_more"] or not page["data"]:
            return
        page = read(path, limit=100, starting_after=page["data"][-1]["id"], **params)


def _body(answer: Answer) -> Json:
    _stop_if_refused(answer)
    if answer.status is None or answer.status in (409, 429) or answer.status >= 500:
        raise StripeUnreachable(answer.message or f"Stripe answered {answer.status}.")
    if answer.status >= 300:
        raise StripeRefused(answer.message, status=answer.status, code=answer.code or "")
    return answer.body


def _stop_if_refused(answer: Answer) -> None:
    outcome = classify(answer.status, error_type=answer.error_type, code=answer.code)
    if outcome is Outcome.STOP_EVERYTHING:
        reason = answer.message or f"Stripe answered {answer.status}."
        breaker.open(reason)
        raise StripeStopped(reason)


def _call(method: str, path: str, *, params: Mapping[str, object], key: str | None) -> Answer:
    breaker.check()
    _limiter.wait(_endpoint(method, path))
    options = {"idempotency_key": key} if key else {}
    try:
        response = stripe_client().raw_request(method, path, **params, **options)
    except stripe.StripeError as error:
        return _refusal(error)
    replayed = response.headers.get("Idempotent-Replayed") == "true"
    moment = _date(response.headers)
    return Answer(response.code, _plain(response.data), replayed=replayed, at=moment)


def _endpoint(method: str, path: str) -> str:
    """`post /v1/invoices/*/finalize`: ids have an underscore and a digit or capital in them."""
    return method + " " + re.sub(r"/[a-z]+_[A-Za-z0-9_]*[A-Z0-9][A-Za-z0-9_]*", "/*", path)


def _refusal(error: stripe.StripeError) -> Answer:
    body = _plain(error.json_body) if isinstance(error.json_body, Mapping) else {}
    raw = body.get("error")
    detail: Json = raw if isinstance(raw, dict) else {}
    headers = error.headers if isinstance(error.headers, Mapping) else {}
    return Answer(
        error.http_status,
        body,
        error_type=detail.get("type"),
        code=detail.get("code"),
        decline_code=detail.get("decline_code"),
        message=str(detail.get("message") or error.user_message or error)[:1000],
        replayed=headers.get("Idempotent-Replayed") == "true",
    )


def _date(headers: Mapping[str, str]) -> datetime | None:
    try:
        return parsedate_to_datetime(headers.get("Date", ""))
    except ValueError:
        return None


def _plain(data: Mapping[str, Any]) -> Json:
    return {name: _plain_value(value) for name, value in data.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _plain(value)
    if isinstance(value, list):
        return [_plain_value(item) for item in value]
    return value
