"""Refusals in Stripe's shape: what raises them decides the status, the code and the words."""

from __future__ import annotations

from billing.payments.simulator.forms import Json

_DOCS = "https://docs.stripe.com/error-codes#"


class Refusal(Exception):
    """An answer other than 200. `executed` tells whether the call had begun to act.

    Stripe stores an answer under its idempotency key only once acting began; a refused
    parameter or a concurrent twin leaves nothing behind.
    """

    def __init__(self, status: int, error: Json, *, executed: bool = False) -> None:
        super().__init__(error.get("message", error["type"]))
        self.status = status
        self.error = error
        self.executed = executed
        self.headers: dict[str, str] = {}

    @property
    def body(self) -> Json:
        """The JSON body of the answer."""
        return {"error": self.error}


class CardRefused(Refusal):
    """A 402: the bank or the cardholder said no. What was tried stays recorded."""

    def __init__(self, error: Json) -> None:
        super().__init__(402, {"type": "card_error", **error}, executed=True)


def bad_request(
    message: str, *, code: str | None = None, param: str | None = None, executed: bool = False
) -> Refusal:
    """Build a 400 `invalid_request_error`."""
    return Refusal(400, _error("invalid_request_error", message, code, param), executed=executed)


def wrong_state(message: str, *, code: str | None = None) -> Refusal:
    """Build the 400 for a call that is well formed but comes at the wrong moment."""
    return bad_request(message, code=code, executed=True)


def no_such(kind: str, identifier: str, *, param: str = "id", status: int = 404) -> Refusal:
    """Build the `resource_missing` refusal: 404 for the object itself, 400 for a parameter."""
    message = f"No such {kind}: '{identifier}'"
    error = _error("invalid_request_error", message, "resource_missing", param)
    return Refusal(status, error, executed=True)


def unauthorized(message: str) -> Refusal:
    """Build the 401 for a missing, revoked or foreign key."""
    return Refusal(401, _error("invalid_request_error", message, None, None))


def idempotency_mismatch(key: str) -> Refusal:
    """Build the 400 for a key that was used before with other parameters."""
    message = (
        "Keys for idempotent requests can only be used with the same parameters they were "
        f"first used with. Try using a key other than '{key}' if you meant to execute a "
        "different request."
    )
    return Refusal(400, _error("idempotency_error", message, None, None))


def key_in_use(key: str) -> Refusal:
    """Build the 409 for a key whose first request is still being answered."""
    message = (
        "There is currently another in-progress request using this Idempotency Key "
        f"(that probably means you submitted twice, and the other request is still going "
        f"through): {key}. Please try again later."
    )
    error = _error("idempotency_error", message, "idempotency_key_in_use", None)
    return Refusal(409, error)


def _error(kind: str, message: str, code: str | None, param: str | None) -> Json:
    error: Json = {"type": kind, "message": message}
    if code is not None:
        error["code"] = code
        error["doc_url"] = _DOCS + code.replace("_", "-")
    if param is not None:
        error["param"] = param
    return error
