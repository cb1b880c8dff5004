"""Counts decisions for Prometheus, once a batch: raised for every call, counters would show."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter

from metering.gate import metrics
from metering.gate.answers import REPLAYED, Admitted
from metering.gate.calls import Call, Check, Closing, Fate, Reported, Work, outcomes

_decisions: dict[tuple[str, str], Counter] = {}  # bound labels, so that none is looked up twice


def count_landed(works: Iterable[Work]) -> None:
    """Count what was decided for customers whose answers stand, before anybody is told."""
    decided: dict[tuple[str, str], int] = {}
    fates: list[Fate] = []
    replays = expired = 0
    for work in works:
        if work.seldom is not None:
            expired += len(work.seldom.expired)
        for call in work.calls:
            if call.done:
                continue  # refused meanwhile, and counted as that
            if isinstance(call, Reported) and call.failure is None:
                fates += call.fates.values()
                continue
            code, replayed = _outcome(call)
            replays += replayed
            key = mode_of(call), code
            decided[key] = decided.get(key, 0) + 1
    for key, count in decided.items():
        _decision(key).inc(count)
    for outcome, count in outcomes(fates).items():
        metrics.EVENTS.labels(outcome).inc(count)
    if replays:
        metrics.REPLAYS.inc(replays)
    if expired:
        metrics.EXPIRED.inc(expired)


def _outcome(call: Call) -> tuple[str, bool]:
    """The code of what a call was answered, and whether it is a repeat's answer."""
    if call.failure is not None:
        return call.failure.code, False
    answer = call.answer
    if isinstance(answer, Admitted):
        return "allowed", answer.replayed
    if answer is None or answer.status == 200:
        return "allowed", answer is not None and answer.headers[-1] is REPLAYED
    return answer.body["code"], False  # type: ignore[index,call-overload]  # a denial


def count_refused(call: Call, code: str) -> None:
    """Count a call that was refused before or without a decision."""
    _decision((mode_of(call), code)).inc()


def mode_of(call: Call) -> str:
    """What a call asks for: a check's mode, an action on a hold, or to count events."""
    if isinstance(call, Check):
        return call.body.mode
    return call.action if isinstance(call, Closing) else "events"


def _decision(key: tuple[str, str]) -> Counter:
    bound = _decisions.get(key)
    if bound is None:
        bound = _decisions[key] = metrics.DECISIONS.labels(*key)
    return bound
