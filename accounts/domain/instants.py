"""Times as texts: also the leap seconds that RFC 3339 knows, and Python does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

_LEAP: Final = re.compile(r"(?<=[Tt :][0-9]{2}:[0-9]{2}):60(?:\.[0-9]+)?(?![0-9])")
_DAY: Final = timedelta(days=1)


def read_instant(
    text: str, *, read: Callable[[str], datetime] = datetime.fromisoformat
) -> datetime:
    """The time that `read` finds in a text; of a leap second, the last microsecond before it ends.

    So it lies in the day and the month that it ends. There may be one where a month ends in UTC,
    which a text without an offset is taken to be in. Raises ValueError and OverflowError, as `read`
    does.
    """
    if ":60" not in text:
        return read(text)
    before, leaps = _LEAP.subn(":59", text, count=1)
    found = read(before)
    if not leaps:
        return found
    there = found if found.tzinfo is None else found.astimezone(UTC)
    if (there.hour, there.minute) != (23, 59) or (there + _DAY).day != 1:
        raise ValueError("there is no leap second but at the end of a month in UTC")
    return found.replace(microsecond=999_999)
