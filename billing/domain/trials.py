"""What becomes of a trial when it is over."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_PLAN: Final = "plan:"


class TrialEndInvalid(Exception):
    """No end of a trial is called like that."""


class TrialOutcome(StrEnum):
    PAID = "paid"  # the plan goes on, and is charged from then on
    WAITS = "waits"  # calls are denied until there is a payment method
    CANCELED = "canceled"
    MOVED = "moved"  # to a plan that costs nothing


@dataclass(frozen=True, slots=True)
class TrialEnd:
    """What happens without a payment method. ``plan``: the key of the plan that takes over."""

    outcome: TrialOutcome
    plan: str = ""

    def __str__(self) -> str:
        match self.outcome:
            case TrialOutcome.MOVED:
                return f"{_PLAN}{self.plan}"
            case TrialOutcome.CANCELED:
                return "cancel"
            case _:
                return "wait"


def parse_trial_end(text: str) -> TrialEnd:
    """``wait``, ``cancel`` or ``plan:<key>``. Raises :class:`TrialEndInvalid`."""
    match text:
        case "wait":
            return TrialEnd(TrialOutcome.WAITS)
        case "cancel":
            return TrialEnd(TrialOutcome.CANCELED)
        case _ if text.startswith(_PLAN) and len(text) > len(_PLAN):
            return TrialEnd(TrialOutcome.MOVED, text.removeprefix(_PLAN))
        case _:
            raise TrialEndInvalid("must be wait, cancel, or plan: with the key of a plan")
