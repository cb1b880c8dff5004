"""What a plan says about the end of its trials."""

from __future__ import annotations

import pytest

from billing.domain.trials import TrialEnd, TrialEndInvalid, TrialOutcome, parse_trial_end


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("wait", TrialEnd(TrialOutcome.WAITS)),
        ("cancel", TrialEnd(TrialOutcome.CANCELED)),
        ("plan:free", TrialEnd(TrialOutcome.MOVED, "free")),
    ],
)
def test_ends_are_read_and_written(text: str, end: TrialEnd) -> None:
    assert parse_trial_end(text) == end
    assert str(end) == text


@pytest.mark.parametrize("text", ["", "plan:", "pause", "Wait", "free"])
def test_what_is_no_end(text: str) -> None:
    with pytest.raises(TrialEndInvalid, match="must be wait"):
        parse_trial_end(text)
