"""The demonstration: the main job, played visibly against the running Farebox over HTTP."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import urllib3

from config.quickstart.demonstration import story as steps
from config.quickstart.demonstration.calling import Farebox, NotAsExpected
from config.quickstart.demonstration.story import Story
from config.quickstart.printing import heading, row

Say = Callable[[str], None]


class StepFailed(Exception):
    """A step did not go as it should have."""


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the table. `stripe`: only the simulator's pages can be clicked by us."""

    title: str
    expected: str
    play: Callable[[Story], str]
    stripe: bool = False


STEPS: Final = (
    Step(
        "the plan runs out",
        "Free plan: 1,000 calls are 200 with falling balances; the 1,001st is 402 with a way out",
        steps.free_calls_run_out,
    ),
    Step(
        "the upgrade",
        "Upgrade to Pro on Stripe's Checkout page; the webhook arrives; the next call is 200",
        steps.upgrade_through_checkout,
        stripe=True,
    ),
    Step(
        "holds",
        "Hold an estimate of tokens, settle the actual; a forgotten hold frees itself",
        steps.hold_and_settle,
    ),
    Step(
        "overage",
        "Usage past the included quantity is admitted, counted as overage, rolled up",
        steps.use_more_than_included,
        stripe=True,
    ),
    Step(
        "the period's end",
        "The period ends: closed, rated, one invoice, pushed to Stripe, charged, paid, balanced",
        steps.period_ends_and_is_paid,
    ),
    Step(
        "the declined card",
        "A card is declined: 402 payment_failed; a better card, and the next call is 200",
        steps.card_is_declined_and_mended,
        stripe=True,
    ),
    Step(
        "the report",
        "Finance downloads usage and invoice lines as CSV: they equal the invoice to the cent",
        steps.finance_downloads,
    ),
)


def demonstrate(farebox: Farebox, *, simulated: bool, say: Say) -> None:
    """Play the main job with new customers, telling of each step.

    Without the simulator the steps that need clicks on Stripe's pages are left out, which is
    said. Raises StepFailed, naming the step, at the first that does not go as it should.
    """
    now = datetime.now(UTC)
    told = Story(
        farebox, name=f"demo-{now:%m%d-%H%M%S}-{secrets.token_hex(2)}", now=now, simulated=simulated
    )
    say(heading())
    for number, step in enumerate(STEPS, start=1):
        if step.stripe and not simulated:
            say(row(number, step.expected, "left out: needs the Stripe simulator", mark="--"))
            continue
        try:
            happened = step.play(told)
        except (NotAsExpected, urllib3.exceptions.HTTPError, OSError) as error:
            say(row(number, step.expected, str(error), mark="NO"))
            raise StepFailed(f"step {number}, {step.title}: {error}") from error
        say(row(number, step.expected, happened, mark="ok"))
