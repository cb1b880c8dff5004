"""What follows a failed payment.

Stripe decides when a card is tried again (Smart Retries); we only follow: an invoice that
failed leaves the customer served until its grace ends.
"""

from __future__ import annotations

from datetime import datetime, timedelta


def grace_ends_at(failed_at: datetime, *, grace_days: int) -> datetime:
    """The first instant at which the customer is no longer served. Counted from the first
    failure: further failures do not prolong it."""
    return failed_at + timedelta(days=grace_days)
