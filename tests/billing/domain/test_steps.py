from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.steps import (
    FIRST_WAIT,
    LONGEST_WAIT,
    MAX_KEY_LENGTH,
    REPEATED_FAULTS,
    Outcome,
    PlannedStep,
    StepKeyTooLong,
    StepKind,
    StepState,
    backoff,
    classify,
    needs_action,
    next_step,
    plan_steps,
    reusable,
    step_key,
)

K, R = StepKind, Outcome
NOW = datetime(2026, 4, 16, tzinfo=UTC)


def done(step: PlannedStep, *, attempt: int = 1) -> StepState:
    return StepState(step.kind, step.chunk, attempt, done=True)


def test_the_plan_of_an_invoice() -> None:
    assert plan_steps(51) == (
        PlannedStep(K.CREATE),
        PlannedStep(K.ADD_LINES, 0),
        PlannedStep(K.ADD_LINES, 1),
        PlannedStep(K.COMPARE),
        PlannedStep(K.FINALIZE),
    )
    assert plan_steps(1, pay=True)[-2:] == (PlannedStep(K.FINALIZE), PlannedStep(K.PAY))
    assert plan_steps(50).count(PlannedStep(K.ADD_LINES, 0)) == 1
    assert len(plan_steps(50)) == 4


@given(st.integers(1, 250), st.booleans())
def test_steps_are_taken_in_order_to_the_end(lines: int, pay: bool) -> None:
    tried: list[StepState] = []
    for planned in plan_steps(lines, pay=pay):
        tried.append(StepState(planned.kind, planned.chunk, 1, done=False))
        assert next_step(tried, line_count=lines, pay=pay) == planned
        tried.append(done(planned, attempt=2))
    assert next_step(tried, line_count=lines, pay=pay) is None


@given(st.integers(1, 250), st.sets(st.integers(0, 8)))
def test_no_step_is_skipped(lines: int, indexes: set[int]) -> None:
    plan = plan_steps(lines)
    tried = [done(plan[index]) for index in indexes if index < len(plan)]
    step = next_step(tried, line_count=lines)
    before = plan if step is None else plan[: plan.index(step)]
    assert set(before) <= {PlannedStep(state.kind, state.chunk) for state in tried}


ids = st.from_regex(r"inv_[0-9a-z]{4,26}", fullmatch=True)
calls = st.tuples(ids, st.sampled_from(StepKind), st.integers(1, 999), st.integers(0, 4))


@given(calls, calls)
def test_keys_are_equal_exactly_for_equal_calls(
    one: tuple[str, StepKind, int, int], other: tuple[str, StepKind, int, int]
) -> None:
    keys = [
        step_key(invoice, step=step, attempt=attempt, chunk=chunk)
        for invoice, step, attempt, chunk in (one, other)
    ]
    assert (keys[0] == keys[1]) == (one == other)
    assert len(keys[0]) <= MAX_KEY_LENGTH


def test_a_key() -> None:
    assert step_key("inv_1", step=K.ADD_LINES, attempt=2, chunk=3) == "farebox:inv_1:add_lines:3:2"
    with pytest.raises(StepKeyTooLong):
        step_key("i" * 250, step=K.PAY, attempt=1)


def test_a_key_is_good_for_23_hours() -> None:
    assert reusable(NOW, now=NOW + timedelta(hours=23) - timedelta(microseconds=1))
    assert not reusable(NOW, now=NOW + timedelta(hours=23))


@given(st.integers(0, 10_000), st.text(max_size=40))
def test_waits_grow_within_bounds_and_repeat_exactly(failures: int, key: str) -> None:
    wait = backoff(failures, key=key)
    assert FIRST_WAIT / 2 <= wait <= LONGEST_WAIT
    assert wait == backoff(failures, key=key)
    full = min(FIRST_WAIT * 2 ** max(0, min(failures, 20) - 1), LONGEST_WAIT)
    assert full / 2 <= wait <= full


def test_two_that_failed_together_do_not_come_back_together() -> None:
    assert len({backoff(5, key=f"inv_{number}") for number in range(50)}) > 25


@pytest.mark.parametrize(
    ("status", "error_type", "code", "expected"),
    [
        (200, None, None, R.DONE),
        (201, None, None, R.DONE),
        (None, None, None, R.RETRY),
        (500, "api_error", None, R.RETRY),
        (503, None, None, R.RETRY),
        (409, "idempotency_error", "idempotency_key_in_use", R.RETRY),
        (409, None, None, R.RETRY),
        (429, "invalid_request_error", "rate_limit", R.RETRY),
        (429, None, None, R.RETRY),
        (400, "invalid_request_error", "lock_timeout", R.RETRY),
        (400, "idempotency_error", None, R.QUARANTINE),
        (400, "invalid_request_error", "parameter_unknown", R.QUARANTINE),
        (400, "invalid_request_error", None, R.QUARANTINE),
        (418, None, None, R.QUARANTINE),
        (302, None, None, R.QUARANTINE),
        (402, "card_error", "card_declined", R.DECLINE),
        (402, "card_error", "some_new_reason", R.DECLINE),
        (402, "invalid_request_error", None, R.DECLINE),
        (400, "invalid_request_error", "invoice_payment_intent_requires_action", R.DECLINE),
        (400, "invalid_request_error", "payment_intent_mandate_invalid", R.DECLINE),
        (404, "invalid_request_error", "resource_missing", R.RECONCILE),
        (404, None, None, R.RECONCILE),
        (400, "invalid_request_error", "invoice_not_editable", R.RECONCILE),
        (401, None, None, R.STOP_EVERYTHING),
        (403, None, None, R.STOP_EVERYTHING),
        (400, "invalid_request_error", "api_key_expired", R.STOP_EVERYTHING),
    ],
)
def test_classify(
    status: int | None, error_type: str | None, code: str | None, expected: Outcome
) -> None:
    assert classify(status, error_type=error_type, code=code) is expected


@pytest.mark.parametrize("status", [None, 500])
def test_faults_that_repeat_are_looked_into(status: int | None) -> None:
    assert classify(status, repeats=REPEATED_FAULTS - 1) is R.RETRY
    assert classify(status, repeats=REPEATED_FAULTS) is R.RECONCILE


@pytest.mark.parametrize("step", list(StepKind))
def test_an_uncoded_refusal_to_finalize_or_pay_is_looked_into_once(step: StepKind) -> None:
    expected = R.RECONCILE if step in (K.FINALIZE, K.PAY) else R.QUARANTINE
    assert classify(400, error_type="invalid_request_error", step=step) is expected
    again = classify(400, error_type="invalid_request_error", step=step, repeats=1)
    assert again is R.QUARANTINE


def test_three_d_secure_waits_for_the_customer() -> None:
    assert needs_action("authentication_required")
    assert not needs_action("card_declined")
    assert not needs_action(None)
