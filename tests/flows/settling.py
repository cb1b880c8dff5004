"""Doing what worker and beat would do, until nothing is left to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from billing.operations import closing, dunning, issuing, topping_up
from billing.payments import charging, inbox, pushing, retracting
from billing.payments.simulator import Simulator
from metering.operations import expiring, rolling_up

_ROUNDS = 20


def settle_everything(
    *, simulator: Simulator | None = None, ahead: timedelta = timedelta(0)
) -> None:
    """Roll up, expire, close, issue, top up, push, apply Stripe's news, till a round does nothing.

    It is `ahead` of now. With a simulator its webhooks have all arrived before each round.
    """
    for _ in range(_ROUNDS):
        if simulator is not None:
            simulator.wait_for_webhooks()
        now = datetime.now(UTC) + ahead
        if sum(each(now) for each in _WORK) == 0:
            return
    raise AssertionError(f"after {_ROUNDS} rounds there is still something to do")


def _roll_up(now: datetime) -> int:
    return rolling_up.roll_up(limit=10_000)


def _bounded(work: Callable[..., int]) -> Callable[[datetime], int]:
    return lambda now: work(now=now, limit=1_000)


_WORK: Sequence[Callable[[datetime], int]] = (
    _bounded(inbox.process_pending),
    _roll_up,
    _bounded(expiring.expire_holds),
    _bounded(closing.advance_due),
    _bounded(closing.close_due),
    _bounded(issuing.issue_due),
    _bounded(topping_up.top_up_due),
    _bounded(pushing.push_due),
    _bounded(charging.charge_due),
    _bounded(retracting.retract_due),
    _bounded(dunning.advance),
)
