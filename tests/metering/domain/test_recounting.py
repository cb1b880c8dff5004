"""metering.domain.recounting: giving back, taking anew, and who pays for a window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.account import Account, Balance, Grant, Terms
from metering.domain.burndown import Deltas
from metering.domain.meters import Aggregation
from metering.domain.recounting import Payer, give_back_grants, recount, share_out

NOW = datetime(2026, 11, 15, 12, 30, tzinfo=UTC)
MONTH = datetime(2026, 11, 1, tzinfo=UTC)
YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def terms(window: str = "month", *, included: int = 4, **members: Any) -> Terms:
    given: dict[str, Any] = {
        "meter_id": 1,
        "window": window,
        "anchor_at": YEAR,
        "included": included,
        "unlimited": False,
        "over_is_billed": False,
        "overage_limit": None,
        "starts_at": YEAR,
        "ends_at": None,
        **members,
    }
    return Terms(**given)


def account(*rights: Terms, grants: int = 0) -> Account:
    found = Account(customer_id=1, version=1)
    found.terms[1] = list(rights)
    if grants:
        found.grants[1] = [Grant(7, 1, grants, 0, 0, 10, YEAR, None)]
    return found


def counted(book: Account, deltas: Deltas) -> dict[str, tuple[int, int]]:
    """used and grant_used by window, the same in the copy as in what will be written."""
    for key, change in deltas.balances.items():
        row = book.balances[key]
        assert (row.used, row.grant_used) == (change.used, change.grant_used)
    return {key[1]: (row.used, row.grant_used) for key, row in book.balances.items()}


@pytest.mark.parametrize("as_gate", [True, False])
def test_what_was_taken_is_given_back_and_taken_anew(as_gate: bool) -> None:
    book, deltas = account(terms(), terms("hour"), grants=10), Deltas()
    kinds = {1: Aggregation.SUM}
    first = recount(book, deltas, at=NOW, before={}, paid_by=None, after={"1": 9}, kinds=kinds)
    assert counted(book, deltas) == {"month": (9, 5), "hour": (9, 0)}
    assert first.paid_by is not None
    assert first.paid_by["1"]["grants"] == {"7": 5}
    paid_by = {"1": {"grants": {"7": 5}}} if as_gate else first.paid_by
    again = recount(
        book, deltas, at=NOW, before={"1": 9}, paid_by=paid_by, after={"1": 6}, kinds=kinds
    )
    assert counted(book, deltas) == {"month": (6, 2), "hour": (6, 0)}
    assert book.grants[1][0].used == deltas.grants[7][0] == 2
    last = recount(
        book, deltas, at=NOW, before={"1": 6}, paid_by=again.paid_by, after={}, kinds=kinds
    )
    assert (last.paid_by, last.anew) == (None, [])
    assert counted(book, deltas) == {"month": (0, 0), "hour": (0, 0)}
    assert book.grants[1][0].used == 0


def test_what_stays_keeps_what_paid_for_it() -> None:
    book, deltas = account(terms()), Deltas()
    paid_by = {"1": {"grants": {"7": 5}}}
    kinds = {1: Aggregation.SUM, 2: Aggregation.MAX}
    usage = {"1": 9, "2": 4}
    done = recount(book, deltas, at=NOW, before=usage, paid_by=paid_by, after=usage, kinds=kinds)
    assert (done.paid_by, done.anew) == (paid_by, [])
    assert not deltas.balances


def test_readings_that_go_are_left_to_their_window() -> None:
    book, deltas = account(terms(), grants=10), Deltas()
    kinds = {1: Aggregation.MAX}
    new = recount(book, deltas, at=NOW, before={}, paid_by=None, after={"1": 9}, kinds=kinds)
    assert counted(book, deltas) == {"month": (9, 5)}
    done = recount(
        book, deltas, at=NOW, before={"1": 9}, paid_by=new.paid_by, after={"1": 3}, kinds=kinds
    )
    assert done == (new.paid_by, [1])
    assert counted(book, deltas) == {"month": (9, 5)}


def test_windows_that_are_not_counted_give_nothing_back() -> None:
    book, deltas = account(terms(starts_at=NOW + timedelta(days=40))), Deltas()
    kinds = {1: Aggregation.COUNT}
    recount(book, deltas, at=NOW, before={"1": 1}, paid_by=None, after={}, kinds=kinds)
    assert not deltas.balances


def test_grants_return_to_the_window_in_which_they_were_burned() -> None:
    book = account(terms("week"), grants=10)
    book.grants[1].append(Grant(8, 1, 5, 5, 0, 10, YEAR, None))
    present = (1, "week", terms("week").window_at(NOW)[0])
    month, day = (1, "month", MONTH), (1, "day", NOW.replace(hour=0, minute=0))
    other = (1, "month", datetime(2026, 9, 1, tzinfo=UTC))
    hour = (1, "hour", NOW.replace(minute=0))
    of_another = (2, "month", MONTH)
    for key in (month, present, day, other, hour, of_another):
        book.balances[key] = Balance(key[2] + timedelta(days=7), 9, 9, stored=True)
    book.balances[month].end_at = datetime(2026, 12, 1, tzinfo=UTC)
    book.balances[present].grant_used = 2
    deltas = Deltas()
    give_back_grants(book, deltas, meter_id=1, allocation={"grants": {"8": 4, "9": 2}}, at=NOW)
    assert {key: change.grant_used for key, change in deltas.balances.items()} == {
        present: -2,
        day: -4,
        month: 0,
    }
    assert deltas.grants == {8: [-4, 0], 9: [-2, 0]}
    assert [grant.used for grant in book.grants[1]] == [0, 1]


def test_a_window_that_is_not_in_the_copy_is_reached_by_name() -> None:
    book, deltas = account(grants=10), Deltas()
    windows = [["hour", int(NOW.timestamp())], ["month", int(MONTH.timestamp())]]
    give_back_grants(
        book,
        deltas,
        meter_id=1,
        allocation={"q": 9, "grants": {"7": 5}, "windows": windows},
        at=NOW,
    )
    ((key, change),) = deltas.balances.items()
    assert (key, change.grant_used, change.stored) == ((1, "month", MONTH), -5, True)


def payer(number: int, grants: dict[str, int], **members: Any) -> Payer:
    given: dict[str, Any] = {"at": NOW, "counts": True, "touched": False, **members}
    return Payer(UUID(int=number), grants=grants, **given)


def test_too_much_returns_from_those_who_need_it_least() -> None:
    later = NOW + timedelta(minutes=1)
    payers = [
        payer(1, {"7": 3}),
        payer(2, {"7": 3, "8": 1}, at=later),
        payer(3, {"8": 3}, touched=True),
        payer(4, {"8": 2}, counts=False, touched=True),
    ]
    found = share_out(payers, wanted=5, order=["7", "8"], heir=UUID(int=3))
    assert found.paid == {UUID(int=1): {"7": 3}, UUID(int=2): {"7": 2}, UUID(int=3): {}} | {
        UUID(int=4): {}
    }
    assert found.returned == {"8": 6, "7": 1}
    found = share_out(payers, wanted=11, order=["7"], heir=UUID(int=9))
    assert found.paid[UUID(int=9)] == {"8": 1}
    assert found.paid[UUID(int=4)] == {}


_SHARES = st.dictionaries(st.sampled_from("789"), st.integers(1, 5), max_size=3)


@given(
    shares=st.lists(st.tuples(_SHARES, st.booleans(), st.booleans()), max_size=6),
    wanted=st.integers(0, 40),
    order=st.permutations(["7", "8"]),
)
def test_nothing_is_lost_and_no_more_is_paid_than_is_wanted(
    shares: list[tuple[dict[str, int], bool, bool]], wanted: int, order: list[str]
) -> None:
    payers = [
        payer(number, grants, counts=counts, touched=touched)
        for number, (grants, counts, touched) in enumerate(shares)
    ]
    total = sum(sum(each.grants.values()) for each in payers)
    found = share_out(payers, wanted=wanted, order=order, heir=UUID(int=99))
    left = sum(sum(grants.values()) for grants in found.paid.values())
    assert left == min(total, wanted)
    assert left + sum(found.returned.values()) == total
    assert all(not found.paid[each.event_id] for each in payers if not each.counts)
    for grant_id in "789":
        before = sum(each.grants.get(grant_id, 0) for each in payers)
        after = sum(grants.get(grant_id, 0) for grants in found.paid.values())
        assert before == after + found.returned.get(grant_id, 0)
    assert share_out(payers, wanted=0, order=order, heir=None).returned.keys() == {
        grant_id for each in payers for grant_id in each.grants
    }
