"""Hypothesis strategies of curves, for the tests of this folder."""

from __future__ import annotations

from hypothesis import strategies as st

from metering.domain.spending import MAJOR, Curve, Step

CENT = MAJOR // 100


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    """Curves as prices make them: rising tiers, packages, and volumes that may grow cheaper."""
    ends = draw(st.lists(st.integers(1, 60), unique=True, max_size=3).map(sorted))
    amounts = st.sampled_from([0, CENT // 3, CENT // 2, CENT, 7 * CENT]) | st.integers(0, 9 * CENT)
    begin, steps = 0, []
    for up_to in [*ends, None]:
        origin = draw(st.sampled_from([0, begin]))
        size = draw(st.sampled_from([1, 1, 7]))
        steps.append(Step(up_to, draw(amounts), draw(amounts), origin=origin, size=size))
        begin = up_to or 0
    return Curve(tuple(steps))
