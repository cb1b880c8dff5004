"""Making the customers that a replay plays for, over the management API."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import urllib3

from metering.management.lines import CallsFailed

_TIMEOUT_S = 30


class Registrar:
    """Provides customers with an operator's key; without one they have to be there."""

    def __init__(self, base_url: str, *, operator_key: str | None) -> None:
        self._base_url = base_url
        self._operator_key = operator_key

    def provide(self, customers: Sequence[str], *, plan: str | None) -> None:
        """Make customers with these external ids where there are none, and subscribe them.

        Who has a subscription keeps it. Collection is manual: nobody's card is needed. Raises
        CallsFailed.
        """
        if self._operator_key is None:
            return
        for external_id in customers:
            status, _ = self._call("GET", f"/customers/{external_id}")
            if status == 404:
                self._make("/customers", {"external_id": external_id, "name": external_id})
            if plan is not None and not self._subscribed(external_id):
                wish = {"customer": external_id, "plan": plan, "collection": "manual"}
                self._make("/subscriptions", wish)

    def _subscribed(self, external_id: str) -> bool:
        status, found = self._call("GET", f"/subscriptions?customer={external_id}")
        if status != 200:
            raise CallsFailed(f"Subscriptions could not be read: {found}")
        return any(each["status"] != "canceled" for each in found["data"])

    def _make(self, path: str, body: dict[str, str]) -> None:
        status, found = self._call("POST", path, body)
        if status != 201:
            raise CallsFailed(f"{path} refused {body}: {found.get('detail', status)}")

    def _call(
        self, method: str, path: str, body: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self._operator_key}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            with urllib3.PoolManager(retries=False, timeout=_TIMEOUT_S) as http:
                answer = http.request(
                    method,
                    f"{self._base_url}/api/v1{path}",
                    body=None if body is None else json.dumps(body).encode(),
                    headers=headers,
                )
                return answer.status, answer.json()
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise CallsFailed(f"{self._base_url} did not answer: {error}") from error
