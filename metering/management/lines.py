"""A line to Farebox's HTTP API that asks again: what it sends is told apart by its ids."""

from __future__ import annotations

import json
import threading
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final
from urllib.parse import urlsplit

Json = dict[str, Any]
_ATTEMPTS: Final = 8
_TIMEOUT_S: Final = 30
_DENIALS: Final = (402, 403, 429)
_AGAIN: Final = (409, 502, 503, 504)


class CallsFailed(Exception):
    """The service cannot be called: not there, or it refuses what is asked."""


class Line:
    """One connection, used by one thread; `stopped` ends its waits early."""

    def __init__(self, base_url: str, *, key: str, stopped: threading.Event) -> None:
        address = urlsplit(base_url)
        # The standard library's costs half of what others' do.
        kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
        self._http = kind(address.hostname or "localhost", address.port, timeout=_TIMEOUT_S)
        self._base_url = base_url
        self._path = address.path.rstrip("/") + "/api/v1"
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._stopped = stopped

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def post(self, path: str, body: bytes) -> tuple[int, Json, bool]:
        """Status (200 or a denial), body, and whether it is the answer of an earlier time.

        What got no answer, or "not now", is sent again as it is. Raises CallsFailed.
        """
        problem = "no answer"
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._stopped.wait(min(0.1 * 2**attempt, 5.0))
            try:
                self._http.request("POST", f"{self._path}{path}", body=body, headers=self._headers)
                answer = self._http.getresponse()
                found = json.loads(answer.read())
            except (HTTPException, OSError, ValueError) as error:
                self._http.close()  # the next request opens it again
                problem = str(error) or type(error).__name__
                continue
            if answer.status == 200 or answer.status in _DENIALS:
                return answer.status, found, answer.getheader("Farebox-Replayed") == "true"
            problem = sentence(found)
            if answer.status not in _AGAIN:
                break
        raise CallsFailed(f"{self._base_url} did not take {path}: {problem}")


def sentence(problem: Json) -> str:
    """What a problem says, on one line."""
    return " ".join(str(problem[name]) for name in ("status", "code", "detail") if name in problem)
