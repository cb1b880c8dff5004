"""Farebox as its users meet it: over HTTP, with an operator's and a gateway's key."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import urllib3

Json = dict[str, Any]
T = TypeVar("T")
PATIENCE_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.2
_TIMEOUT_S: Final = 30


class NotAsExpected(Exception):
    """Something was answered that should not have been; the sentence says what."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a body."""

    status: int
    body: Json


class Farebox:
    """Calls the management API, the gate, and the simulator's own door."""

    def __init__(
        self, base_url: str, *, operator_key: str, gateway_key: str, stripe_url: str | None
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.stripe_url = stripe_url
        self._operator_key = operator_key
        self._gateway_key = gateway_key
        self._http = urllib3.PoolManager(retries=False, timeout=_TIMEOUT_S)

    def close(self) -> None:
        """End the connections."""
        self._http.clear()

    # --- management -------------------------------------------------------------------------

    def get(self, path: str, **query: str) -> Json:
        """Read from the management API. Raises NotAsExpected for anything but 200."""
        return self._expect(200, "GET", path, self._operator_key, query=query)

    def post(self, path: str, body: Json, *, status: int = 201) -> Json:
        """Write to the management API. Raises NotAsExpected for another status."""
        return self._expect(status, "POST", path, self._operator_key, body=body)

    def rows(self, path: str, **query: str) -> list[dict[str, str]]:
        """A CSV report, as one dict a row."""
        answer = self._http.request(
            "GET", self._url(path), fields=query, headers=_bearer(self._operator_key)
        )
        if answer.status != 200:
            raise NotAsExpected(f"{path} answered {answer.status}.")
        return list(csv.DictReader(io.StringIO(answer.data.decode())))

    # --- the gate ---------------------------------------------------------------------------

    def check(self, **members: Any) -> Answer:
        """Ask whether a call may be made; the answer may well be no."""
        return self._ask("POST", "/check", self._gateway_key, body=members)

    def checks(self, checks: Sequence[Json]) -> list[Json]:
        """Many checks in one request, each with a fate of its own."""
        body = self.gate("/check", {"checks": list(checks)})
        found: list[Json] = body["results"]
        return found

    def gate(self, path: str, body: Any) -> Json:
        """Another call of a gateway. Raises NotAsExpected for anything but 200."""
        return self._expect(200, "POST", path, self._gateway_key, body=body)

    def hold(self, hold_id: str) -> Json:
        """A hold as it stands."""
        found: Json = self._expect(200, "GET", f"/holds/{hold_id}", self._gateway_key)["hold"]
        return found

    # --- Stripe -----------------------------------------------------------------------------

    def stripe_invoice(self, stripe_id: str) -> Json:
        """An invoice as the simulated Stripe has it."""
        address = f"{self.stripe_url}/v1/invoices/{stripe_id}"
        answer = self._http.request("GET", address, headers=_bearer("sk_test_quickstart"))
        found: Json = answer.json()
        if answer.status != 200:
            raise NotAsExpected(f"Stripe answered {answer.status} for {stripe_id}.")
        return found

    # --- the parts --------------------------------------------------------------------------

    def _expect(self, status: int, method: str, path: str, key: str, **request: Any) -> Json:
        answer = self._ask(method, path, key, **request)
        if answer.status != status:
            raise NotAsExpected(f"{method} {path} answered {describe(answer)}.")
        return answer.body

    def _ask(
        self, method: str, path: str, key: str, *, query: Json | None = None, body: Any = None
    ) -> Answer:
        headers = _bearer(key)
        if body is not None:
            headers["Content-Type"] = "application/json"
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = self._http.request(
                method,
                self._url(path),
                fields=query or None,
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
            )
            again = answer.status == 503 and key == self._gateway_key
            if not again or time.monotonic() > deadline:
                break
            # A gate that is overloaded, or without its database: the same again is safe.
            time.sleep(float(answer.headers.get("Retry-After", "1")))
        try:
            return Answer(answer.status, answer.json() if answer.data else {})
        except ValueError as error:
            raise NotAsExpected(f"{method} {path} answered {answer.status}, no JSON.") from error

    def _url(self, path: str) -> str:
        return f"{self.base_url}/api/v1{path}"


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def describe(answer: Answer) -> str:
    """A status, with the code and sentence of a problem."""
    told = [str(answer.body[name]) for name in ("code", "param", "detail") if name in answer.body]
    return " ".join([str(answer.status), *told])


def until(what: str, probe: Callable[[], T | None], *, patience_s: float = PATIENCE_S) -> T:
    """Look again and again until there is something; returns it. Raises NotAsExpected."""
    deadline = time.monotonic() + patience_s
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise NotAsExpected(f"After {patience_s:.0f} seconds still not: {what}.")
        time.sleep(_LOOK_EVERY_S)
