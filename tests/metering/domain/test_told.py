"""What an admitted call was told comes back as it was, and takes little room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metering.domain.told import BalanceTold, Told, balance_bodies, keep, recall

QUANTITIES = st.integers(0, 2**53)
BALANCES = st.builds(
    BalanceTold,
    meter=st.text(),
    window=st.sampled_from(["day", "month", "lifetime"]),
    granted=QUANTITIES,
    used=QUANTITIES,
    held=QUANTITIES,
    remaining=QUANTITIES,
    overage=QUANTITIES,
    overage_limit=st.none() | QUANTITIES,
    unlimited=st.booleans(),
    resets_at=st.none() | st.just("2026-12-01T00:00:00Z"),
)
TOLD = st.builds(
    Told,
    mode=st.sampled_from(["consume", "hold"]),
    plan=st.text(),
    balances=st.lists(BALANCES, max_size=3),
    expires_at=st.none() | st.just("2026-11-26T12:00:00Z"),
)


@given(TOLD)
def test_what_was_told_comes_back_as_it_was(told: Told) -> None:
    assert recall(keep(told)) == told


def test_what_is_kept_names_no_members() -> None:
    balance = BalanceTold("api.calls", "month", 10, 3, 0, 7, 0, None, False, None)

    kept = keep(Told("consume", "pro", [balance]))

    assert kept == '["consume","pro",[["api.calls","month",10,3,0,7,0,null,false,null]],null]'


def test_balances_are_given_to_doors_that_write_no_structs_as_mappings() -> None:
    balance = BalanceTold("api.calls", "month", 10, 3, 0, 7, 0, 5, False, "2026-12-01T00:00:00Z")

    assert balance_bodies(Told("consume", "pro", [balance])) == [
        {
            "meter": "api.calls",
            "window": "month",
            "granted": 10,
            "used": 3,
            "held": 0,
            "remaining": 7,
            "overage": 0,
            "overage_limit": 5,
            "unlimited": False,
            "resets_at": "2026-12-01T00:00:00Z",
        }
    ]
