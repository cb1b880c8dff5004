"""`/_simulator/...`: moving the clock, arming faults, looking inside, starting over."""

from __future__ import annotations

import json
from collections import Counter

from billing.payments.simulator import due
from billing.payments.simulator.api import Answer, Request
from billing.payments.simulator.delivery import Courier
from billing.payments.simulator.errors import Refusal, bad_request, no_such
from billing.payments.simulator.events import queue
from billing.payments.simulator.faults import Faults
from billing.payments.simulator.forms import Json, decode
from billing.payments.simulator.idempotency import Keys
from billing.payments.simulator.presenting import present
from billing.payments.simulator.world import World


class Control:
    """Answers the simulator's own calls; they take JSON or form bodies and need no key."""

    def __init__(self, world: World, keys: Keys, faults: Faults, courier: Courier) -> None:
        self._world = world
        self._keys = keys
        self._faults = faults
        self._courier = courier

    def answer(self, request: Request) -> Answer:
        """Answer one call. Raises `Refusal`."""
        body = _body(request)
        match request.method, request.path.removeprefix("/_simulator/").split("/"):
            case "GET", ["clock"]:
                return Answer(200, {"now": self._world.now()})
            case "POST", ["clock"]:
                return Answer(200, self.move_clock(body))
            case "GET", ["faults"]:
                return Answer(200, {"faults": self._faults.waiting()})
            case "POST", ["faults"]:
                self._faults.add(body)
                return Answer(200, {"faults": self._faults.waiting()})
            case "DELETE", ["faults"]:
                self._faults.clear()
                return Answer(200, {"faults": []})
            case "POST", ["reset"]:
                self.reset()
                return Answer(200, {"reset": True})
            case "GET", ["state"]:
                return Answer(200, self.state())
            case "POST", ["events", identifier, "resend"]:
                return Answer(200, {"queued": self.resend(identifier)})
            case "POST", ["webhooks", "hurry"]:
                self._courier.hurry()
                return Answer(200, {"hurried": True})
            case _:
                message = f"No such control: {request.method} {request.path}"
                raise Refusal(404, {"type": "invalid_request_error", "message": message})

    def move_clock(self, wish: Json) -> Json:
        """Advance by seconds or set to a Unix time; what falls due on the way happens."""
        with self._world.store.unit():
            now = self._world.now()
            try:
                target = int(wish["now"]) if "now" in wish else now + int(wish["advance"])
            except (KeyError, TypeError, ValueError):
                raise bad_request('Send {"advance": seconds} or {"now": Unix time}.') from None
            done = due.move_to(self._world, target)
        self._courier.hurry()
        return {"now": self._world.now(), "done": done}

    def reset(self) -> None:
        """Forget everything but the webhook endpoints; the clock follows real time again."""
        self._faults.clear()
        self._keys.forget()
        self._world.store.clear()
        self._world.clock.follow_real_time()

    def resend(self, identifier: str) -> int:
        """Queue an event again for every endpoint; return for how many."""
        store = self._world.store
        event = store.get(identifier)
        if event is None or event["object"] != "event":
            raise no_such("event", identifier)
        endpoints = store.all("webhook_endpoint")
        for endpoint in endpoints:
            queue(store, event=identifier, endpoint=endpoint["id"])
        self._courier.wake()
        return len(endpoints)

    def state(self) -> Json:
        """Return counts, every object by kind, deliveries and requests."""
        store = self._world.store
        with store.unit():
            kinds = store.counts()
            deliveries = store.run("select state, count(*) from delivery group by state")
            return {
                "now": self._world.now(),
                "counts": kinds,
                "event_counts": Counter(event["type"] for event in store.all("event")),
                "deliveries": dict(deliveries),
                "requests": self.requests(),
                "objects": {
                    kind: [present(store, obj) for obj in reversed(store.all(kind))]
                    for kind in kinds
                },
            }

    def requests(self) -> list[Json]:
        """Return the API requests answered so far, oldest first; `replayed` is 0 or 1."""
        rows = self._world.store.run(
            "select id, method, path, status, key, replayed from request order by seq"
        )
        names = ("id", "method", "path", "status", "idempotency_key", "replayed")
        return [dict(zip(names, row, strict=True)) for row in rows]


def _body(request: Request) -> Json:
    text = request.text
    if not text:
        return {}
    # curl and urllib call every body a form; what begins like JSON is JSON.
    form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    if form and not text.lstrip().startswith("{"):
        return decode(text)
    try:
        body = json.loads(text)
    except ValueError:
        raise bad_request("The body is not JSON.") from None
    if not isinstance(body, dict):
        raise bad_request("The body is not a JSON object.")
    return body
