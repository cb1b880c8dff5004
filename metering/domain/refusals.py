"""Why an event is refused: what of it is kept in quarantine, when it is tried again, what helps.

One table, for the gate that keeps events, for whoever tries them again, and for the fate of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kept(StrEnum):
    """Which refused events are kept, where the operator wants any kept."""

    ALWAYS = "always"
    FOREIGN = "foreign"  # what came in another system's shape: its sender cannot just mend it
    NEVER = "never"  # only the sender can mend it, and will: by another id, or another event


class Again(StrEnum):
    """When a kept event is tried again."""

    ALWAYS = "always"  # by every run
    CHOSEN = "chosen"  # only where somebody names it: counting it is for a person to decide


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reason: `point`, where on its way the event stopped; `mend`, what an operator does."""

    point: str
    kept: Kept
    again: Again
    mend: str


class StillRefused(Exception):
    """The event cannot be counted: `code` is the problem's, `detail` a sentence."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


_CUSTOMER_GIVEN: Final = "try it again with `customer`, if you know whose it is; else give it up"
_KEY_ENDED: Final = (
    "The usage came with a key that was no longer good. Try it again by name to let its customer "
    "pay for it, or give it up."
)
_NO_CUSTOMER: Final = Refusal(
    "customer",
    Kept.ALWAYS,
    Again.CHOSEN,
    f"Have the sender name a key that was issued here; {_CUSTOMER_GIVEN}.",
)
_NO_HOLD: Final = Refusal(
    "hold",
    Kept.ALWAYS,
    Again.CHOSEN,
    "Try it again by name: it is counted as usage, without the hold.",
)
_UNREADABLE: Final = Refusal(
    "shape",
    Kept.FOREIGN,
    Again.ALWAYS,
    f"Mend what the sender writes, for what is to come; {_CUSTOMER_GIVEN}.",
)
REFUSALS: Final[dict[str, Refusal]] = {
    "parameter_missing": _UNREADABLE,
    "parameter_invalid": _UNREADABLE,
    "customer_unknown": Refusal(
        "customer",
        Kept.ALWAYS,
        Again.ALWAYS,
        f"Create the customer with this external id, then try the event again; or {_CUSTOMER_GIVEN}"
        ".",
    ),
    "key_unknown": _NO_CUSTOMER,
    "key_malformed": _NO_CUSTOMER,
    "key_revoked": Refusal("key", Kept.ALWAYS, Again.CHOSEN, _KEY_ENDED),
    "key_expired": Refusal("key", Kept.ALWAYS, Again.CHOSEN, _KEY_ENDED),
    "time_out_of_range": Refusal(
        "time",
        Kept.ALWAYS,
        Again.ALWAYS,
        "Widen FAREBOX_EVENT_MAX_AGE_DAYS or FAREBOX_EVENT_MAX_AHEAD_S and try it again; where its "
        "time is wrong, give it up.",
    ),
    "meter_unknown": Refusal(
        "meter",
        Kept.ALWAYS,
        Again.ALWAYS,
        "Create a meter for events of this type, then try the event again.",
    ),
    "quantity_invalid": Refusal(
        "quantity",
        Kept.ALWAYS,
        Again.ALWAYS,
        "Let the meter take what the event has (its property, its filters), then try it again; "
        "where the number is wrong, give it up and have it reported under another id.",
    ),
    "price_unknown": Refusal(
        "price",
        Kept.ALWAYS,
        Again.ALWAYS,
        "Add what the detail names to the price table in a new version, then try the event again.",
    ),
    "not_found": _NO_HOLD,
    "hold_released": _NO_HOLD,
    "id_reused": Refusal(
        "id",
        Kept.NEVER,
        Again.CHOSEN,
        "Its id counted with other content: look at the event of that id, amend it if this one was "
        "right, and give this one up.",
    ),
    "events_gone": Refusal(
        "books",
        Kept.NEVER,
        Again.CHOSEN,
        "What it would be counted with was dropped after its retention: give it up.",
    ),
    "internal_error": Refusal(
        "books",
        Kept.ALWAYS,
        Again.ALWAYS,
        "The log says what the database refused; when that is mended, try the event again.",
    ),
}
_OTHER: Final = Refusal("shape", Kept.NEVER, Again.CHOSEN, "Have it reported as documented.")
# Reasons for which a run over all that wait leaves an event to a person.
CHOSEN_ONLY: Final = frozenset(
    code for code, each in REFUSALS.items() if each.again is Again.CHOSEN
)


# Why, for the customer whose event it is: of the operator's catalogue it tells nothing.
TOLD: Final[dict[str, str]] = {
    "parameter_missing": "Something that is needed is missing from it.",
    "parameter_invalid": "Something in it has a form that is not understood.",
    "customer_unknown": "Whose it is was not known when it came.",
    "key_unknown": "It came with a key that was never issued here.",
    "key_malformed": "It came with something that is no key.",
    "key_revoked": "It came with a key that had been revoked.",
    "key_expired": "It came with a key whose time was over.",
    "time_out_of_range": "Its time lies too far back, or ahead.",
    "meter_unknown": "Events of its type are not counted here.",
    "quantity_invalid": "Its quantity is missing, or cannot be counted.",
    "price_unknown": "There is no price for what it used.",
    "not_found": "It names a hold that is not there.",
    "hold_released": "It names a hold that was given back.",
    "id_reused": "An event with its id, but another content, was counted before.",
    "events_gone": "It is of a time whose events are no longer kept.",
    "internal_error": "Something was wrong on our side.",
}


def refusal_of(code: str) -> Refusal:
    """What the table says of a problem's code; one that it does not name is never kept."""
    return REFUSALS.get(code, _OTHER)


def told_of(code: str) -> str:
    """Why an event was refused, in words that name nobody and tell nothing of the catalogue."""
    return TOLD.get(code, "It could not be counted.")


def is_kept(code: str, *, foreign: bool) -> bool:
    """Whether an event that was refused so may be kept. `foreign`: it could not be translated."""
    kept = refusal_of(code).kept
    return kept is Kept.ALWAYS or (foreign and kept is Kept.FOREIGN)
