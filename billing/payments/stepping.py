"""The step log: every call that changes something at Stripe is committed before it is made.

A worker may die before, during or after the call. Whoever comes next finds the row, and either
repeats it (same key, same bytes: Stripe answers as it did) or, where the key may be forgotten,
looks first at what is there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction

from billing.domain import steps
from billing.domain.steps import Outcome, StepKind
from billing.models import StripeStep
from billing.payments import client

Json = dict[str, Any]
State = StripeStep.State

# Lists may lag behind: what is not found sooner than this after the last call may yet appear.
NOT_FOUND_AFTER: Final = timedelta(minutes=10)


class StepWaits(Exception):
    """No final answer yet; the same step is to be taken again at `retry_at`."""

    def __init__(self, step: StripeStep, *, retry_at: datetime) -> None:
        super().__init__(f"{step.key}: {step.error or 'no answer yet'}")
        self.step = step
        self.retry_at = retry_at


class StepQuarantined(Exception):
    """Stripe refused the step, or holds something else than we meant: a person must look."""

    def __init__(self, step: StripeStep) -> None:
        super().__init__(f"{step.kind}: {step.error}")
        self.step = step


@dataclass(frozen=True, slots=True)
class Call:
    """One POST: for whom (`subject`, a public id), what, where, with which parameters.

    `look_first`: somebody else may have done it already, so look before it is sent at all.
    `renew`: the caller has seen that it is needed again, so an earlier answer does not count;
    otherwise a step that was answered once stays answered, whatever the parameters.
    """

    subject: str
    kind: StepKind
    path: str
    params: Mapping[str, object]
    invoice_id: int | None = None
    chunk: int = 0
    look_first: bool = False
    renew: bool = False

    @property
    def request(self) -> Json:
        """What is stored and sent: parameters in one order, so that the bytes are the same."""
        return {"params": _canonical(self.params), "path": self.path}


# Looks at Stripe for what a step should have made: the object, or None where it is not there.
Find = Callable[[StripeStep], Json | None]


def not_found(_: StripeStep) -> Json | None:
    """For steps that may harmlessly be made twice."""
    return None


def take(
    call: Call,
    *,
    now: datetime,
    find: Find,
    again: Callable[[], Mapping[str, object]] | None = None,
) -> StripeStep:
    """Bring the step to an end and return it: DONE with its `answer`, or a payment DECLINED.

    `again` gives the parameters of a new attempt after one that left only a part behind.
    Call it outside any transaction. Raises StepWaits, StepQuarantined, StripeStopped.
    """
    step = latest(call.subject, kind=call.kind, chunk=call.chunk)
    step = step or _begin(call, attempt=1, now=now)
    if call.look_first and step.sends == 0 and (found := find(step)) is not None:
        _settle(step, state=State.DONE, error="Found at Stripe.", now=now, answer=found)
    answers_this = step.state == State.PENDING and step.request == call.request
    step = _advance(step, find=find, now=now)
    outdated = call.renew and step.state != State.PENDING and not answers_this
    if step.state == State.ABANDONED and (found := find(step)) is not None:
        return _adopt(step, answer=found, now=now)
    if step.state == State.ABANDONED or outdated:
        fresh = dataclasses.replace(call, params=again()) if again else call
        step = _advance(_begin(fresh, attempt=step.attempt + 1, now=now), find=find, now=now)
    match step.state:
        case State.DONE:
            return step
        case State.DECLINED if call.kind is StepKind.PAY:
            return step
        case State.DECLINED | State.QUARANTINED:
            raise StepQuarantined(step)
        case _:
            wait = steps.backoff(step.sends, key=step.key)
            raise StepWaits(step, retry_at=now + wait)


def waits(subject: str, *, kind: StepKind, now: datetime) -> bool:
    """Whether the last call of this kind has no answer and is not due again."""
    step = latest(subject, kind=kind)
    if step is None or step.state != State.PENDING or step.last_sent_at is None:
        return False
    return now < step.last_sent_at + steps.backoff(step.sends, key=step.key)


def send(step: StripeStep, *, now: datetime) -> Outcome:
    """Make the call once more with its key and bytes, and store what it said.

    Guarantees that the row is committed as sent before a byte leaves. Raises StripeStopped and
    leaves the step as it was where our key is refused.
    """
    client.breaker.check()
    sent_fields = ("first_sent_at", "last_sent_at", "sends")
    before = {name: getattr(step, name) for name in sent_fields}
    step.first_sent_at = step.first_sent_at or now
    step.last_sent_at = now
    step.sends += 1
    with transaction.atomic(durable=True):
        step.save(update_fields=sent_fields)
    try:
        answer = client.post(
            step.request["path"], params=_canonical(step.request["params"]), key=step.key
        )
    except client.StripeStopped as stopped:
        StripeStep.objects.filter(pk=step.pk).update(**before, error=str(stopped)[:1000])
        raise
    outcome = steps.classify(
        answer.status,
        error_type=answer.error_type,
        code=answer.code,
        step=StepKind(step.kind),
        repeats=step.sends - 1,
    )
    _store(step, answer=answer, outcome=outcome, now=now)
    return outcome


def latest(subject: str, *, kind: StepKind, chunk: int = 0) -> StripeStep | None:
    """The last attempt of a step."""
    attempts = StripeStep.objects.filter(subject=subject, kind=kind.value, chunk=chunk)
    return attempts.order_by("-attempt").first()


def reopen(subject: str, *, kinds: Sequence[StepKind], even_pending: bool = False) -> None:
    """Give every answered step of these kinds up, so that each is taken anew, looking first.

    For an operator who has mended what made a step a quarantine. `even_pending`: also those that
    wait for an answer, where what they were about is gone at Stripe.
    """
    given_up = StripeStep.objects.filter(subject=subject, kind__in=[kind.value for kind in kinds])
    if not even_pending:
        given_up = given_up.exclude(state=State.PENDING)
    with transaction.atomic(durable=True):
        given_up.update(state=State.ABANDONED)


def _begin(call: Call, *, attempt: int, now: datetime) -> StripeStep:
    key = steps.step_key(call.subject, step=call.kind, attempt=attempt, chunk=call.chunk)
    # A twin of this worker may do the same: the constraint makes both use one row, one key.
    with transaction.atomic(durable=True):
        step, _ = StripeStep.objects.get_or_create(
            subject=call.subject,
            kind=call.kind.value,
            chunk=call.chunk,
            attempt=attempt,
            defaults={
                "key": key,
                "invoice_id": call.invoice_id,
                "request": call.request,
                "created_at": now,
            },
        )
    return step


def _advance(step: StripeStep, *, find: Find, now: datetime) -> StripeStep:
    """Send, or look where sending could make a second object."""
    if step.state != State.PENDING:
        return step
    if _must_look(step, now=now):
        return _reconcile(step, find=find, now=now)
    if send(step, now=now) is Outcome.RECONCILE:
        return _reconcile(step, find=find, now=now)
    step.refresh_from_db()
    return step


def _adopt(step: StripeStep, *, answer: Json, now: datetime) -> StripeStep:
    """An attempt that was given up had its effect after all."""
    found = {"state": State.DONE, "answer": answer, "answered_at": now}
    with transaction.atomic(durable=True):
        StripeStep.objects.filter(pk=step.pk, state=State.ABANDONED).update(**found)
    step.refresh_from_db()
    return step


def _must_look(step: StripeStep, *, now: datetime) -> bool:
    if step.first_sent_at is None:
        return False
    if not steps.reusable(step.first_sent_at, now=now):
        return True
    faulty = step.http_status is None or step.http_status >= 500
    return faulty and step.sends > steps.REPEATED_FAULTS


def _reconcile(step: StripeStep, *, find: Find, now: datetime) -> StripeStep:
    """Adopt what is there; else give this attempt up, once a lagging list is no excuse."""
    try:
        found = find(step)
    except client.StripeUnreachable as error:
        _settle(step, state=State.PENDING, error=str(error), now=now)
        return step
    if found is not None:
        _settle(step, state=State.DONE, error="Found at Stripe.", now=now, answer=found)
    elif _was_refused(step):
        _settle(step, state=State.QUARANTINED, error=step.error, now=now)
    elif step.last_sent_at is not None and now - step.last_sent_at < NOT_FOUND_AFTER:
        _settle(step, state=State.PENDING, error="Not found at Stripe yet.", now=now)
    else:
        _settle(step, state=State.ABANDONED, error="Not found at Stripe.", now=now)
    return step


def _was_refused(step: StripeStep) -> bool:
    """Whether the last answer was final and said no (a 409 or 429 is not final)."""
    status = step.http_status
    return status is not None and 400 <= status < 500 and status not in (409, 429)


def _store(step: StripeStep, *, answer: client.Answer, outcome: Outcome, now: datetime) -> None:
    states = {
        Outcome.DONE: State.DONE,
        Outcome.DECLINE: State.DECLINED,
        Outcome.QUARANTINE: State.QUARANTINED,
    }
    state = states.get(outcome, State.PENDING)
    step.http_status = answer.status
    step.error = "" if outcome is Outcome.DONE else _words(answer)
    body = answer.body if state != State.PENDING else None
    _settle(step, state=state, error=step.error, now=now, answer=body)


def _settle(
    step: StripeStep, *, state: str, error: str, now: datetime, answer: Json | None = None
) -> None:
    """Write the answer unless a twin has ended the step meanwhile; what is ended stays ended."""
    fields: dict[str, object] = {"state": state, "error": error[:1000]}
    fields |= {"http_status": step.http_status}
    if state != State.PENDING:
        fields |= {"answered_at": now}
    if answer is not None:
        fields |= {"answer": answer}
    with transaction.atomic(durable=True):
        StripeStep.objects.filter(pk=step.pk, state=State.PENDING).update(**fields)
    step.refresh_from_db()


def _words(answer: client.Answer) -> str:
    where = f"HTTP {answer.status}" if answer.status else "No answer"
    code = answer.decline_code or answer.code or answer.error_type or ""
    return f"{where} {code} {answer.message}".replace("  ", " ").strip()[:1000]


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _canonical(value[name]) for name in sorted(value)}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return value
