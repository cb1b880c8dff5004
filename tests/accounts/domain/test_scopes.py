"""Scopes: what covers what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.domain.scopes import ADMIN, SCOPES, ScopeUnknown, allows, checked_scopes

scopes = st.sampled_from(list(SCOPES))


@given(scopes)
def test_admin_covers_all_and_each_covers_itself(needed: str) -> None:
    assert allows([ADMIN], needed)
    assert allows([needed], needed)
    assert not allows([], needed)


def test_writing_covers_reading_and_not_the_other_way() -> None:
    assert allows(["customers:write"], "customers:read")
    assert not allows(["customers:read"], "customers:write")
    assert not allows(["customers:write"], "plans:read")
    assert not allows(set(SCOPES) - {ADMIN}, ADMIN)


@given(st.lists(scopes, min_size=1))
def test_scopes_are_kept_once_in_the_order_of_the_table(asked: list[str]) -> None:
    kept = checked_scopes(asked)
    assert set(kept) == set(asked)
    assert kept == [scope for scope in SCOPES if scope in asked]


@pytest.mark.parametrize("asked", [[], ["customers:delete"], ["admin", ""]])
def test_unknown_and_no_scopes_are_refused_with_the_known_ones(asked: list[str]) -> None:
    with pytest.raises(ScopeUnknown, match="customers:read"):
        checked_scopes(asked)
