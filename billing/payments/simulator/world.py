"""What every call works on: the store, the clock, and who is asking."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field

from billing.payments.simulator.clock import Clock
from billing.payments.simulator.errors import no_such
from billing.payments.simulator.events import announce
from billing.payments.simulator.forms import Json
from billing.payments.simulator.store import Store

API_VERSION = "2026-10-28.endive"
_LETTERS = string.ascii_letters + string.digits
# Stripe's words for its objects in "No such ...: 'id'".
_SPOKEN = {
    "payment_method": "PaymentMethod",
    "payment_intent": "payment_intent",
    "setup_intent": "setupintent",
    "credit_note": "credit note",
}


@dataclass(slots=True)
class World:
    """The simulated account. Calls run one at a time, inside `store.unit()`."""

    store: Store
    clock: Clock
    public_url: str
    request_id: str | None = None
    idempotency_key: str | None = None
    faults_now: set[str] = field(default_factory=set)

    def now(self) -> int:
        """Return the simulated time in Unix seconds."""
        return self.clock.now()

    def emit(self, kind: str, obj: Json, previous: Json | None = None) -> None:
        """Announce an event with a snapshot of `obj` and queue its deliveries."""
        announce(
            self.store,
            kind=kind,
            obj=obj,
            previous=previous,
            now=self.now(),
            api_version=API_VERSION,
            request={"id": self.request_id, "idempotency_key": self.idempotency_key},
        )

    def find(self, kind: str, identifier: str, *, param: str | None = None) -> Json:
        """Return a live object, or refuse: 404 for a path, 400 for a parameter."""
        obj = self.store.get(identifier)
        if obj is None or obj["object"] != kind or (param and obj.get("deleted")):
            raise no_such(
                _SPOKEN.get(kind, kind),
                identifier,
                param=param or kind.rsplit(".", 1)[-1],
                status=400 if param else 404,
            )
        return obj


def new_id(prefix: str, length: int = 24) -> str:
    """Return a fresh id such as `cus_...`."""
    return prefix + "_" + "".join(secrets.choice(_LETTERS) for _ in range(length))


def merged(old: dict[str, str], change: dict[str, str] | None) -> dict[str, str]:
    """Apply a metadata parameter: empty values unset keys, None unsets all."""
    if change is None:
        return {}
    both = {**old, **change}
    return {key: value for key, value in both.items() if value != ""}
