"""metering.domain.refusals: every reason has its point, and says what helps."""

from __future__ import annotations

import pytest

from accounts.domain.problem_types import PROBLEM_TYPES
from metering.domain.refusals import CHOSEN_ONLY, REFUSALS, Again, Kept, is_kept, refusal_of


@pytest.mark.parametrize("code", REFUSALS)
def test_every_reason_says_where_it_stopped_and_what_helps(code: str) -> None:
    assert code in PROBLEM_TYPES
    refusal = REFUSALS[code]
    assert refusal.point
    assert refusal.mend.endswith(".")
    assert (code in CHOSEN_ONLY) == (refusal.again is Again.CHOSEN)


def test_what_is_kept() -> None:
    assert is_kept("meter_unknown", foreign=False)
    assert is_kept("key_revoked", foreign=False)
    assert is_kept("parameter_missing", foreign=True)
    for code in ("parameter_missing", "parameter_invalid", "id_reused"):
        assert not is_kept(code, foreign=False)
    for foreign in (False, True):
        assert not is_kept("body_malformed", foreign=foreign)
        assert not is_kept("unheard_of", foreign=foreign)
    assert refusal_of("unheard_of").kept is Kept.NEVER
