"""What the machine asks for, and the plans that its customer is on."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.metering.gate.model import CALLS, TOKENS, Plan

quantities = st.one_of(st.integers(0, 40), st.sampled_from([1, 75, 120, 10**15]))
small = st.integers(0, 60)
modes = st.sampled_from(["peek", "consume", "hold"])
names = st.sampled_from([f"id-{n}" for n in range(8)])
items = st.one_of(
    st.fixed_dictionaries({CALLS: quantities}),
    st.fixed_dictionaries({CALLS: small, TOKENS: small}),
    st.fixed_dictionaries({TOKENS: quantities}),
)
plans = st.one_of(
    st.none(),
    st.builds(Plan, st.sampled_from([0, 50, 100])),
    st.builds(Plan, st.sampled_from([50, 100]), hourly=st.sampled_from([30, 70])),
    st.builds(Plan, st.just(40), billed=st.just(True), cap=st.sampled_from([None, 0, 25])),
    st.builds(Plan, st.just(40), unlimited=st.just(True), hourly=st.sampled_from([None, 200])),
)
