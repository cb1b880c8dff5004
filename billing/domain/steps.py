"""The steps that bring an invoice to Stripe, so that each can be repeated safely.

A step is committed with its key before it is called and carries that key for as long as it
may: Stripe answers a known key with the stored result, so a lost answer costs nothing. After
that time a repeat would make a second object, and one must look first (``RECONCILE``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

MAX_KEY_LENGTH: Final = 255  # Stripe's limit
KEY_REUSABLE_FOR: Final = timedelta(hours=23)  # Stripe forgets keys after 24 h at the earliest
LINES_PER_CHUNK: Final = 50
LINES_PER_INVOICE: Final = 250  # Stripe's limit; small lines are put together before
FIRST_WAIT: Final = timedelta(seconds=2)
LONGEST_WAIT: Final = timedelta(hours=1)
# Stripe stores a 500 with its key and repeats it: past so many, only looking helps.
REPEATED_FAULTS: Final = 5


class StepKeyTooLong(Exception):
    """Stripe refuses idempotency keys of more than 255 characters."""


class StepKind(StrEnum):
    CREATE = "create"  # the empty draft
    ADD_LINES = "add_lines"  # one chunk of lines
    COMPARE = "compare"  # read it back; only an equal invoice goes on
    FINALIZE = "finalize"
    PAY = "pay"  # ask for the money now, instead of leaving it to Stripe's own clock
    VOID = "void"  # what was voided here must not be collected there
    WRITE_OFF = "write_off"
    COLLECT = "collect"  # whether Stripe goes on collecting an open invoice
    # Steps that belong to a customer or a visit to Checkout, not to one invoice.
    CUSTOMER = "customer"
    DEFAULT_METHOD = "default_method"
    CUSTOMER_UPDATE = "customer_update"  # name and address, after they changed here
    CUSTOMER_DETAILS = "customer_details"  # what tax depends on: address, tax status
    TAX_ID = "tax_id"
    CHECKOUT = "checkout"


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """``chunk`` counts ADD_LINES from 0 and is 0 for the other kinds."""

    kind: StepKind
    chunk: int = 0


@dataclass(frozen=True, slots=True)
class StepState:
    """A step that was tried; ``done`` when a stored answer says that it took effect."""

    kind: StepKind
    chunk: int
    attempt: int
    done: bool


class Outcome(StrEnum):
    """What an answer from Stripe (or its absence) asks of us."""

    DONE = "done"
    RETRY = "retry"  # same key, same bytes, later
    DECLINE = "decline"  # a business answer: the customer's bank said no, or must be asked
    RECONCILE = "reconcile"  # look what is there before anything else
    QUARANTINE = "quarantine"  # a fault of ours: a person must look, nothing moves on
    STOP_EVERYTHING = "stop_everything"  # our account or key is refused: no call can succeed


def plan_steps(line_count: int, *, pay: bool = False) -> tuple[PlannedStep, ...]:
    """All steps of an invoice in order."""
    chunks = -(-line_count // LINES_PER_CHUNK)
    adding = tuple(PlannedStep(StepKind.ADD_LINES, chunk) for chunk in range(chunks))
    before = (PlannedStep(StepKind.CREATE), *adding)
    after = (PlannedStep(StepKind.COMPARE), PlannedStep(StepKind.FINALIZE))
    return (*before, *after, *((PlannedStep(StepKind.PAY),) if pay else ()))


def next_step(
    tried: Sequence[StepState], *, line_count: int, pay: bool = False
) -> PlannedStep | None:
    """The first step that is not done, None when all are. Never skips one: an invoice is not
    finalized unless it was compared, nor compared unless all of its lines were added."""
    done = {(state.kind, state.chunk) for state in tried if state.done}
    for step in plan_steps(line_count, pay=pay):
        if (step.kind, step.chunk) not in done:
            return step
    return None


def step_key(invoice_id: str, *, step: StepKind, attempt: int, chunk: int = 0) -> str:
    """The idempotency key: the same for the same call, of another form for no other.

    Raises :class:`StepKeyTooLong`.
    """
    key = f"farebox:{invoice_id}:{step}:{chunk}:{attempt}"
    if len(key) > MAX_KEY_LENGTH:
        raise StepKeyTooLong(f"A key for {invoice_id[:40]}… has {len(key)} characters.")
    return key


def reusable(first_sent_at: datetime, *, now: datetime) -> bool:
    """Whether a repeat with the same key is still safe; otherwise reconcile first."""
    return now - first_sent_at < KEY_REUSABLE_FOR


def backoff(failures: int, *, key: str) -> timedelta:
    """How long to wait after this many failures in a row (from 1): doubling from 2 seconds to
    an hour, of which the key decides a half to the whole: deterministic, yet two invoices
    that failed together do not come back together."""
    doubled = FIRST_WAIT * (1 << min(max(failures, 1) - 1, 20))
    digest = hashlib.sha256(f"{key}:{failures}".encode()).digest()
    thousandths = 500 + int.from_bytes(digest[:4], "big") % 501
    return min(doubled, LONGEST_WAIT) * thousandths // 1000


_STOP_CODES: Final = frozenset(
    {
        "account_invalid",
        "api_key_expired",
        "livemode_mismatch",
        "platform_api_key_expired",
        "secret_key_required",
        "testmode_charges_only",
    }
)
_RETRY_CODES: Final = frozenset(
    {
        "idempotency_key_in_use",
        "lock_timeout",
        "payment_intent_rate_limit_exceeded",
        "rate_limit",
    }
)
_ACTION_CODES: Final = frozenset(
    {
        "authentication_required",
        "invoice_payment_intent_requires_action",
        "payment_intent_action_required",
    }
)
_DECLINE_CODES: Final = _ACTION_CODES | {
    "account_closed",  # the customer's bank account
    "card_declined",
    "expired_card",
    "payment_intent_authentication_failure",
    "payment_intent_mandate_invalid",
    "payment_intent_payment_attempt_expired",
    "payment_intent_payment_attempt_failed",
    "payment_method_customer_decline",
    "payment_method_not_available",
    "payment_method_provider_decline",
    "payment_method_restricted",
    "payment_method_unactivated",
}
# Someone else moved the invoice on, or our picture of it is old: what is there decides.
_RECONCILE_CODES: Final = frozenset(
    {
        "invoice_not_editable",
        "payment_intent_unexpected_state",
        "resource_already_exists",
        "resource_missing",
        "status_transition_invalid",
    }
)
# Their refusals say in prose only that the invoice is finalized or paid already.
_REFUSED_WITHOUT_CODE: Final = (StepKind.FINALIZE, StepKind.PAY)


def classify(
    status: int | None,
    *,
    error_type: str | None = None,
    code: str | None = None,
    step: StepKind | None = None,
    repeats: int = 0,
) -> Outcome:
    """What to do about an answer: HTTP ``status`` (None: no answer came), Stripe's error
    ``type`` and ``code``, the ``step`` it answers, and how often this very call has failed
    before (``repeats``).

    Codes go before the status, since Stripe gives several of them with 400 or 402. An unknown
    refusal is QUARANTINE: never repeated, never passed over.
    """
    if status is not None and 200 <= status < 300:
        return Outcome.DONE
    if status in (401, 403) or code in _STOP_CODES:
        return Outcome.STOP_EVERYTHING
    by_code = _classify_code(error_type, code=code)
    if by_code is not None:
        return by_code
    if status is None or status >= 500:
        return Outcome.RECONCILE if repeats >= REPEATED_FAULTS else Outcome.RETRY
    match status:
        case 402:
            return Outcome.DECLINE
        case 409 | 429:
            return Outcome.RETRY
        case 404:
            return Outcome.RECONCILE
        case 400 if code is None and step in _REFUSED_WITHOUT_CODE and repeats == 0:
            return Outcome.RECONCILE
        case _:
            return Outcome.QUARANTINE


def _classify_code(error_type: str | None, *, code: str | None) -> Outcome | None:
    if code in _RETRY_CODES:
        return Outcome.RETRY
    if error_type == "idempotency_error":  # the same key with other bytes
        return Outcome.QUARANTINE
    if code in _DECLINE_CODES or error_type == "card_error":
        return Outcome.DECLINE
    return Outcome.RECONCILE if code in _RECONCILE_CODES else None


def needs_action(code: str | None) -> bool:
    """Whether a DECLINE waits for the customer to confirm (3-D Secure): show the hosted
    invoice, and do not try again without them."""
    return code in _ACTION_CODES
