"""A simulator that runs in a thread of this process: for tests, and for the command line."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from types import TracebackType

import uvicorn

from billing.payments.simulator import account, refunds
from billing.payments.simulator.api import Api
from billing.payments.simulator.clock import Clock
from billing.payments.simulator.control import Control
from billing.payments.simulator.delivery import Courier, sign
from billing.payments.simulator.faults import Faults
from billing.payments.simulator.forms import Json, encode
from billing.payments.simulator.idempotency import Keys
from billing.payments.simulator.presenting import present
from billing.payments.simulator.server import App
from billing.payments.simulator.store import Store
from billing.payments.simulator.world import World


class Simulator:
    """A simulated Stripe account on a port of this machine.

    `with Simulator() as stripe:` serves on a free port with state in memory. `url` is what
    `base_addresses={"api": ...}` wants; `webhook_secret` verifies what it delivers to `webhook`.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        database: str = ":memory:",
        webhook: str | None = None,
        webhook_secret: str | None = None,
        api_key: str | None = None,
        public_url: str | None = None,
        first_wait: float = 0.5,
    ) -> None:
        self._socket = socket.create_server((host, port), backlog=128)
        self.port: int = self._socket.getsockname()[1]
        self.url = (public_url or f"http://{host}:{self.port}").rstrip("/")
        self.webhook_secret = webhook_secret or "whsec_" + secrets.token_hex(16)
        self._store = Store(database)
        self._world = World(self._store, Clock(self._store), self.url)
        self._courier = Courier(self._store, first_wait=first_wait)
        self._faults = Faults()
        keys = Keys(self._store)
        self._control = Control(self._world, keys, self._faults, self._courier)
        api = Api(self._world, keys, api_key=api_key)
        app = App(self._world, api, self._control, self._faults, self._courier)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                lifespan="off",
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                timeout_graceful_shutdown=2,
            )
        )
        self._thread = threading.Thread(target=self._serve, name="stripe-simulator", daemon=True)
        if webhook is not None:
            self.send_webhooks_to(webhook)

    def __enter__(self) -> Simulator:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Serve in a thread; returns once requests are answered."""
        self._courier.start()
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.005)

    def run(self) -> None:
        """Serve in this thread until a signal says otherwise."""
        self._courier.start()
        try:
            self._serve()
        finally:
            self._courier.stop()
            self._store.close()

    def stop(self) -> None:
        """Stop serving and delivering."""
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._courier.stop()
        self._store.close()

    def send_webhooks_to(self, url: str) -> None:
        """Deliver every event from now on to `url` instead of where this said before."""
        with self._store.unit():
            for endpoint in self._store.all("webhook_endpoint"):
                if endpoint.get("_given") and endpoint["url"] != url:
                    self._store.remove(endpoint["id"])
                elif endpoint["url"] == url:
                    self._store.put({**endpoint, "_secret": self.webhook_secret})
                    return
            secret = self.webhook_secret
            made = account.new_endpoint(self._world, url=url, secret=secret, enabled=["*"])
            self._store.put({**made, "_given": True})

    def wait_for_webhooks(self, timeout: float = 10) -> None:
        """Wait until every event was accepted; raises `TimeoutError` if some were not."""
        if not self._courier.wait_until_idle(timeout):
            raise TimeoutError(f"webhooks were not accepted within {timeout} s")

    def events(self, kind: str | None = None) -> list[Json]:
        """Return the events so far (of one type), oldest first."""
        with self._store.unit():
            found = reversed(self._store.all("event"))
            return [present(self._store, e) for e in found if kind in (None, e["type"])]

    def signed(self, event_id: str) -> tuple[bytes, str]:
        """Return an event's webhook as (body, Stripe-Signature), to hand over yourself."""
        body = encode(self.get(event_id))
        return body, sign(body, self.webhook_secret, at=int(time.time()))

    def get(self, identifier: str) -> Json:
        """Return an object as the API shows it. Raises `KeyError`."""
        with self._store.unit():
            obj = self._store.get(identifier)
            if obj is None:
                raise KeyError(identifier)
            return present(self._store, obj)

    def all(self, kind: str) -> list[Json]:
        """Return the objects of a kind ("invoice", "charge", ...), oldest first."""
        with self._store.unit():
            return [present(self._store, obj) for obj in reversed(self._store.all(kind))]

    def everything(self) -> list[Json]:
        """Return every object there is, in no particular order."""
        with self._store.unit():
            return [obj for kind in self._store.counts() for obj in self.all(kind)]

    def requests(self, method: str | None = None, path: str | None = None) -> list[Json]:
        """Return the API requests answered so far, oldest first."""
        return [
            request
            for request in self._control.requests()
            if method in (None, request["method"]) and path in (None, request["path"])
        ]

    def now(self) -> int:
        """Return the simulated time in Unix seconds."""
        return self._world.now()

    def advance(self, seconds: int) -> None:
        """Let time pass: retries, renewals and expiries on the way happen, in order."""
        self._control.move_clock({"advance": seconds})

    def set_clock(self, now: int) -> None:
        """Make `now` (Unix seconds) the present; what falls due on the way happens."""
        self._control.move_clock({"now": now})

    def fault(
        self,
        kind: str,
        *,
        method: str = "*",
        path: str = "*",
        times: int = 1,
        seconds: float = 1.0,
    ) -> None:
        """Arm a fault for the next `times` calls that match; see `faults.KINDS`."""
        wish = {"fault": kind, "method": method, "path": path, "times": times, "seconds": seconds}
        self._faults.add(wish)

    def set_up(self, *, tax: Json | None = None, **fields: object) -> None:
        """Set fields of the account, and of its tax settings, until the next reset."""
        with self._store.unit():
            self._store.put({"id": account.ACCOUNT_ID, "object": "account", **fields})
            self._store.put({"id": account.TAX_ID, "object": "tax.settings", **(tax or {})})

    def fail_refund(self, identifier: str) -> None:
        """Let a refund fail at the bank after it succeeded here."""
        with self._store.unit():
            refunds.fail(self._world, self._world.find("refund", identifier))

    def overpay(self, invoice: str, amount: int) -> None:
        """Let more come in for a paid invoice than was owed, by a transfer say."""
        with self._store.unit():
            found = self._world.find("invoice", invoice)
            found["amount_overpaid"] += amount
            self._store.put(found)
            self._world.emit("invoice.overpaid", found)

    def clear_faults(self) -> None:
        """Disarm every fault."""
        self._faults.clear()

    def reset(self) -> None:
        """Forget everything but the webhook endpoints."""
        self._control.reset()

    def resend(self, event_id: str) -> None:
        """Deliver an event once more."""
        self._control.resend(event_id)

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])
