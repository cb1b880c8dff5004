"""The API: keys, routes, idempotency, and one unit of work per call."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from billing.payments.simulator import (
    account,
    catalog,
    checkout,
    credit_notes,
    customers,
    disputes,
    intents,
    invoice_items,
    invoices,
    lines,
    methods,
    portal,
    refunds,
    setups,
    subscriptions,
    taxes,
)
from billing.payments.simulator.calls import Call, Route
from billing.payments.simulator.errors import CardRefused, Refusal, bad_request, unauthorized
from billing.payments.simulator.faults import Fault
from billing.payments.simulator.forms import Json, decode
from billing.payments.simulator.idempotency import Keys, fingerprint
from billing.payments.simulator.presenting import expand
from billing.payments.simulator.shapes import read
from billing.payments.simulator.world import API_VERSION, World, new_id

_MODULES = (
    customers,
    methods,
    setups,
    checkout,
    portal,
    invoice_items,
    invoices,
    lines,
    intents,
    refunds,
    disputes,
    credit_notes,
    catalog,
    subscriptions,
    account,
    taxes,
)
ROUTES: tuple[Route, ...] = tuple(route for module in _MODULES for route in module.ROUTES)
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(\.[a-z]+)?")
_LONGEST_KEY = 255


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request, read whole. Header names are lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 become replacement characters."""
        return self.body.decode(errors="replace")

    @property
    def key(self) -> str | None:
        """The idempotency key; only POST has one."""
        return self.headers.get("idempotency-key") if self.method == "POST" else None


@dataclass(slots=True)
class Answer:
    """An HTTP answer with a JSON body."""

    status: int
    body: Json
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Begun:
    """A call that passed the door: what to run, and under which key."""

    route: Route
    call: Call
    expand: list[str]
    fingerprint: str


class Api:
    """Answers API calls against one world."""

    def __init__(self, world: World, keys: Keys, *, api_key: str | None = None) -> None:
        self._world = world
        self._keys = keys
        self._api_key = api_key
        self._routes = [(route, _pattern(route.pattern)) for route in ROUTES]

    def begin(self, request: Request) -> Begun | Answer:
        """Check key, route, parameters and idempotency key; a stored answer ends it here.

        Raises `Refusal`. After a `Begun`, `finish` must be called once.
        """
        self._check_api_key(request.headers.get("authorization", ""))
        version = request.headers.get("stripe-version", API_VERSION)
        if not _VERSION.fullmatch(version):
            raise bad_request(f"Invalid Stripe API version: {version}")
        route, ids = self._route(request)
        sent = decode(request.query)
        if request.method != "GET":
            sent |= decode(request.text)
        digest = fingerprint(request.method, request.path, sent)
        key = request.key
        if key is not None:
            if len(key) > _LONGEST_KEY:
                raise bad_request(f"Idempotency keys have at most {_LONGEST_KEY} characters.")
            stored = self._keys.begin(key, digest, now=self._world.now())
            if stored is not None:
                return Answer(*stored, headers={"Idempotent-Replayed": "true"})
        try:
            params = read(sent, route.shape)
        except Refusal:
            if key is not None:
                self._keys.end(key)
            raise
        paths = params.pop("expand", [])
        return Begun(route, Call(request.path, ids, params), paths, digest)

    def finish(
        self, request: Request, begun: Begun, request_id: str, fault: Fault | None
    ) -> Answer:
        """Run the call as one unit of work and store its answer under its key."""
        world, key = self._world, request.key
        try:
            with world.store.unit():
                world.request_id, world.idempotency_key = request_id, key
                world.faults_now = {fault.kind} if fault else set()
                answer = self._run(begun, fault)
                if key is not None:
                    self._keep(key, begun, answer)
            return answer
        except Refusal as refusal:
            if key is not None and refusal.executed:
                self._keep(key, begun, Answer(refusal.status, refusal.body))
            raise
        finally:
            world.request_id = world.idempotency_key = None
            if key is not None:
                self._keys.end(key)

    def _run(self, begun: Begun, fault: Fault | None) -> Answer:
        if fault is not None and fault.kind == "500_replay":
            return broken()
        try:
            body = begun.route.handler(self._world, begun.call)
            answer = Answer(200, expand(self._world.store, body, begun.expand))
        except CardRefused as refusal:
            # A declined card is an answer: what was tried stays in the books.
            answer = Answer(refusal.status, refusal.body)
        if fault is not None and fault.kind == "500_replay_after":
            return broken()
        return answer

    def _keep(self, key: str, begun: Begun, answer: Answer) -> None:
        self._keys.keep(
            key,
            begun.fingerprint,
            now=self._world.now(),
            status=answer.status,
            body=answer.body,
        )

    def _route(self, request: Request) -> tuple[Route, tuple[str, ...]]:
        for route, pattern in self._routes:
            if route.method == request.method and (match := pattern.fullmatch(request.path)):
                return route, match.groups()
        message = f"Unrecognized request URL ({request.method}: {request.path})."
        raise Refusal(404, {"type": "invalid_request_error", "message": message})

    def _check_api_key(self, authorization: str) -> None:
        scheme, _, credential = authorization.partition(" ")
        key = credential.strip()
        if scheme.lower() == "basic":
            try:
                key = base64.b64decode(key).decode().partition(":")[0]
            except (binascii.Error, UnicodeDecodeError):
                key = ""
        if not key:
            raise unauthorized("You did not provide an API key.")
        shown = key[:8] + "*" * max(0, len(key) - 12) + key[-4:]
        if self._api_key is not None and key != self._api_key:
            raise unauthorized(f"Invalid API Key provided: {shown}")
        revoked = key.startswith(("sk_test_invalid", "sk_test_revoked"))
        if revoked or not key.startswith(("sk_test_", "rk_test_")):
            raise unauthorized(f"Invalid API Key provided: {shown}")


def broken() -> Answer:
    """Return the 500 that faults answer with."""
    message = "An unknown error occurred"
    return Answer(500, {"error": {"type": "api_error", "message": message}})


def throttled() -> Answer:
    """Return the 429 that faults answer with."""
    error = {
        "type": "invalid_request_error",
        "code": "rate_limit",
        "message": "Request rate limit exceeded.",
    }
    return Answer(429, {"error": error}, {"Stripe-Rate-Limited-Reason": "global-rate"})


def locked() -> Answer:
    """Return the 409 that faults answer with."""
    error = {
        "type": "invalid_request_error",
        "code": "lock_timeout",
        "message": "This object cannot be accessed right now because another API request or "
        "Stripe process is currently accessing it.",
    }
    return Answer(409, {"error": error})


def new_request_id() -> str:
    """Return an id for one request."""
    return new_id("req", 14)


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.escape(path).replace(r"\*", "([A-Za-z0-9_-]+)"))
