"""When a wallet is topped up by itself, and by how much."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.top_ups import (
    AMOUNT_MAX,
    AutoTopUpTerms,
    TopUpInvalid,
    automatic_amount,
    check_amount,
    check_terms,
    month_of,
    request_key_of_form,
    status_of_top_up,
)

TERMS = AutoTopUpTerms(threshold=1_000, amount=2_000, monthly_cap=5_000)


@pytest.mark.parametrize(
    ("balance", "topped_up", "amount"),
    [
        ("999.99", 0, 2_000),
        ("1000", 0, 0),  # at the threshold it is not below it
        ("0", 3_000, 2_000),  # to the very cap
        ("0", 3_001, 0),  # never a part of the amount
    ],
)
def test_the_whole_amount_or_nothing(balance: str, topped_up: int, amount: int) -> None:
    found = automatic_amount(TERMS, balance=Decimal(balance), topped_up=topped_up)
    assert found == amount


@given(
    st.builds(
        lambda threshold, amount, more: AutoTopUpTerms(threshold, amount, amount + more),
        st.integers(1, 10_000),
        st.integers(1, 5_000),
        st.integers(0, 50_000),
    ),
    st.lists(st.decimals(0, 3_000, places=3), max_size=60),
)
def test_no_month_gets_more_than_its_cap_and_no_full_wallet_anything(
    terms: AutoTopUpTerms, draws: list[Decimal]
) -> None:
    balance, topped_up = Decimal(0), 0
    for draw in draws:
        balance -= min(draw, balance)
        before = balance
        amount = automatic_amount(terms, balance=balance, topped_up=topped_up)
        assert amount in (0, terms.amount)
        balance, topped_up = balance + amount, topped_up + amount
        assert topped_up <= terms.monthly_cap
        assert not (amount and before >= terms.threshold)
        # What is low and could be afforded is never left.
        assert amount or before >= terms.threshold or topped_up > terms.monthly_cap - terms.amount


@pytest.mark.parametrize(
    ("amount", "currency", "words"),
    [
        (49, "usd", r"amount: must be at least \$0.50"),
        (AMOUNT_MAX + 1, "usd", "at most"),
        (1_234, "kwd", "multiple of KWD 0.010|multiple of"),
    ],
)
def test_amounts_that_stripe_would_not_charge(amount: int, currency: str, words: str) -> None:
    with pytest.raises(TopUpInvalid, match=words) as refused:
        check_amount(amount, currency=currency)
    assert refused.value.param == "amount"
    check_amount(50, currency="usd")


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        (AutoTopUpTerms(0, 2_000, 5_000), "threshold"),
        (AutoTopUpTerms(AMOUNT_MAX + 1, 2_000, 5_000), "threshold"),
        (AutoTopUpTerms(1_000, 10, 5_000), "amount"),
        (AutoTopUpTerms(1_000, 2_000, 1_999), "monthly_cap"),
    ],
)
def test_terms_that_do_not_hold_together(terms: AutoTopUpTerms, param: str) -> None:
    with pytest.raises(TopUpInvalid) as refused:
        check_terms(terms, currency="usd")
    assert refused.value.param == param
    check_terms(TERMS, currency="usd")


@pytest.mark.parametrize(
    ("status", "paid", "failure", "found"),
    [
        ("open", 0, "", "pending"),
        ("open", 0, "authentication_required", "action_required"),
        ("paid", 2_000, "", "paid"),
        ("void", 2_000, "", "paid"),  # money that came in counts
        ("void", 0, "card_declined", "failed"),
        ("void", 0, "", "canceled"),
    ],
)
def test_where_a_top_up_stands(status: str, paid: int, failure: str, found: str) -> None:
    assert status_of_top_up(status, amount_paid=paid, failure_code=failure) == found


def test_months_are_utc() -> None:
    new_year_in_kiribati = datetime(2027, 1, 1, 5, tzinfo=timezone(timedelta(hours=14)))
    assert month_of(new_year_in_kiribati) == datetime(2026, 12, 1, tzinfo=UTC)


def test_a_form_names_its_request_and_another_amount_is_another_one() -> None:
    key = request_key_of_form("abc", amount=2_500)
    assert key is not None
    assert len(key) == 64
    assert key == request_key_of_form("abc", amount=2_500)
    assert key != request_key_of_form("abc", amount=2_501)
    assert key != request_key_of_form("abd", amount=2_500)
    assert request_key_of_form("", amount=2_500) is None
