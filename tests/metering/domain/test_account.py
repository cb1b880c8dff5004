"""The copy of a customer: what it keeps in mind, and how much of it."""

from __future__ import annotations

from datetime import timedelta

from metering.domain.account import HOLDS_KNOWN, Account, HoldState
from tests.metering.domain.test_burndown import NOW


def hold(number: int) -> HoldState:
    """An open hold of nothing."""
    return HoldState(
        state="open",
        items={},
        allocation={},
        properties=None,
        opened_at=NOW,
        expires_at=NOW + timedelta(minutes=5),
        source="test",
        external_id=str(number),
        fingerprint=number,
        answer="",
        api_key_id=None,
    )


def test_the_oldest_of_too_many_open_holds_is_forgotten() -> None:
    of = Account(customer_id=1, version=1)

    for number in range(HOLDS_KNOWN + 2):
        of.know_hold(str(number), hold(number))

    assert len(of.holds) == HOLDS_KNOWN
    assert next(iter(of.holds)) == "2"
    assert of.holds[str(HOLDS_KNOWN + 1)].fingerprint == HOLDS_KNOWN + 1
