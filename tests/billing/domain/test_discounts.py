"""What coupons take off: hand-worked examples, and that no cent is lost or made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.discounts import (
    CouponInvalid,
    Discount,
    applies,
    check_discount,
    code_of,
    take_off,
)

NOW = datetime(2026, 10, 11, tzinfo=UTC)
END = datetime(2026, 11, 1, tzinfo=UTC)


def percent(text: str) -> Discount:
    return Discount(percent=Decimal(text))


def dollars(amount: int) -> Discount:
    return Discount(amounts={"usd": amount})


discounts = st.builds(
    Discount, percent=st.decimals(min_value="0.01", max_value=100, places=2)
) | st.builds(dollars, st.integers(1, 10**7))


@pytest.mark.parametrize(
    ("discount", "base", "currency", "taken"),
    [
        (percent("20"), 2_000, "usd", 400),
        (percent("12.5"), 100, "usd", 13),  # 12.5 cents, half up
        (percent("100"), 1, "usd", 1),
        (percent("0.01"), 10, "usd", 0),
        (percent("50"), 300, "isk", 200),  # 1.50 is no payable amount of krona: up to 2
        (percent("50"), 50, "isk", 0),
        (percent("90"), 90, "isk", 90),  # the step above would be more than there is
        (percent("20"), 0, "usd", 0),
        (percent("20"), -100, "usd", 0),
        (dollars(500), 2_000, "usd", 500),
        (dollars(500), 499, "usd", 499),
        (dollars(500), 2_000, "eur", 0),
    ],
)
def test_one_discount(discount: Discount, base: int, currency: str, taken: int) -> None:
    assert discount.of(base, currency=currency) == taken


def test_discounts_follow_one_another_and_are_shared_out() -> None:
    charges = [1_000, 333, 334]
    everything = [True, True, True]
    first, second = take_off(
        charges,
        discounts=[(dollars(100), [False, True, True]), (percent("10"), everything)],
        currency="usd",
    )
    # 100 of 667: 49.93 and 50.07, the cent to the larger rest.
    assert (first.base, first.amount, first.shares) == (667, 100, (0, 50, 50))
    # 10 % of 1000 + 283 + 284 = 1567: 156.7, shared as 100, 28.33 and 28.43.
    assert (second.base, second.amount, second.shares) == (1_567, 157, (100, 28, 29))


@given(
    st.lists(st.tuples(st.integers(-(10**6), 10**7), st.booleans(), st.booleans()), min_size=1),
    discounts,
    discounts,
)
def test_nothing_goes_below_zero_and_no_cent_is_lost(
    charges: list[tuple[int, bool, bool]], one: Discount, other: Discount
) -> None:
    amounts = [amount for amount, _, _ in charges]
    taken = take_off(
        amounts,
        discounts=[(one, [c[1] for c in charges]), (other, [c[2] for c in charges])],
        currency="usd",
    )
    left = list(amounts)
    for each, place in zip(taken, (1, 2), strict=True):
        assert sum(each.shares) == each.amount <= each.base
        assert all(
            share == 0 or charge[place] for share, charge in zip(each.shares, charges, strict=True)
        )
        left = [amount - share for amount, share in zip(left, each.shares, strict=True)]
    assert all(now >= min(was, 0) for now, was in zip(left, amounts, strict=True))
    assert sum(left) >= min(sum(amounts), 0)


@given(discounts, st.integers(0, 10**7), st.integers(0, 10**7))
def test_a_larger_bill_is_never_discounted_less(discount: Discount, some: int, others: int) -> None:
    less, more = sorted([some, others])
    assert discount.of(less, currency="usd") <= discount.of(more, currency="usd")


def test_words() -> None:
    assert percent("12.50").words(currency="usd") == "12.5% off"
    assert dollars(500).words(currency="usd") == "$5.00 off"
    assert dollars(500).words(currency="eur") == "€0.00 off"


@pytest.mark.parametrize(
    ("discount", "param"),
    [
        (Discount(), "percent"),
        (Discount(amounts={}), "percent"),
        (Discount(Decimal(10), {"usd": 1}), "percent"),
        (percent("0"), "percent"),
        (percent("100.01"), "percent"),
        (percent("1.001"), "percent"),
        (Discount(amounts={"usd": 0}), "amounts.usd"),
        (Discount(amounts={"isk": 150}), "amounts.isk"),
    ],
)
def test_what_is_no_discount(discount: Discount, param: str) -> None:
    with pytest.raises(CouponInvalid) as refused:
        check_discount(discount)
    assert refused.value.param == param


def test_what_is_a_discount() -> None:
    for discount in (percent("0.01"), percent("100"), Discount(amounts={"usd": 1, "isk": 100})):
        check_discount(discount)


def test_codes() -> None:
    assert code_of(" spring-26 ") == "SPRING-26"
    for text in ("", "-X", "TWO WORDS", "Ä", "X" * 41):
        with pytest.raises(CouponInvalid, match="1 to 40"):
            code_of(text)


def test_periods_count_from_the_one_under_way() -> None:
    def counts(
        periods: int | None, index: int, *, ended: datetime | None = None, end: datetime = END
    ) -> bool:
        return applies(periods, index=index, redeemed_at=NOW, ended_at=ended, end_at=end)

    assert [counts(2, index) for index in range(3)] == [True, True, False]
    assert counts(None, 500)
    assert not counts(None, 0, end=NOW)  # a period that was over
    assert not counts(None, 0, ended=END - timedelta(seconds=1))
    assert counts(None, 0, ended=END)  # that period was over when it was taken back
