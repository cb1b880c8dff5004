"""What of a window's included quantity goes on into the next window."""

from __future__ import annotations

from typing import Final

from metering.domain.windows import RATE_UNITS

PRIORITY: Final = -32_768  # burned before any grant that a person gave


def rolls(window: str) -> bool:
    """Whether anything can go on from a window of that unit: it ends, and is long enough."""
    return window not in RATE_UNITS and window != "lifetime"


def rolled_over(*, included: int, most: int, used: int, taken: int = 0) -> int:
    """How many units go on: at most `most` of the `included` that `used` left.

    `used` is what the window took of what it included (not what grants paid for), open holds with
    it; `taken` was used or is held already of what went on, and is not taken back.
    """
    return max(min(most, included - used), taken, 0)
