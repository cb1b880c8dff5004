from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain import ledger
from billing.domain.ledger import (
    Account,
    AmountNotPositive,
    Entry,
    Posting,
    PostingEmpty,
    PostingKind,
    PostingUnbalanced,
    balances,
    sums,
)
from billing.domain.money import CURRENCIES, CurrencyUnknown

A, K = Account, PostingKind
amounts = st.integers(1, 10**12)
codes = st.sampled_from(sorted(CURRENCIES))


# Each posting with the account that its amount goes into and the one that it comes out of.
def tax_added(amount: int, *, currency: str) -> Posting:
    return ledger.invoice_taxed(added=amount, included=0, currency=currency)


def tax_included(amount: int, *, currency: str) -> Posting:
    return ledger.invoice_taxed(added=0, included=amount, currency=currency)


MOVES: list[tuple[Callable[..., Posting], PostingKind, Account, Account]] = [
    (ledger.invoice_issued, K.INVOICE_ISSUED, A.RECEIVABLE, A.REVENUE),
    (tax_added, K.INVOICE_TAXED, A.RECEIVABLE, A.TAX),
    (tax_included, K.INVOICE_TAXED, A.REVENUE, A.TAX),
    (ledger.invoice_voided, K.INVOICE_VOIDED, A.REVENUE, A.RECEIVABLE),
    (ledger.payment_received, K.PAYMENT_RECEIVED, A.CASH, A.RECEIVABLE),
    (ledger.refund_given, K.REFUND_GIVEN, A.REFUNDS, A.CASH),
    (ledger.refund_failed, K.REFUND_FAILED, A.CASH, A.REFUNDS),
    (ledger.dispute_opened, K.DISPUTE_OPENED, A.DISPUTED, A.CASH),
    (ledger.dispute_won, K.DISPUTE_WON, A.CASH, A.DISPUTED),
    (ledger.dispute_lost, K.DISPUTE_LOST, A.CHARGEBACKS, A.DISPUTED),
    (ledger.credit_granted, K.CREDIT_GRANTED, A.REVENUE, A.CUSTOMER_CREDIT),
    (ledger.credit_applied, K.CREDIT_APPLIED, A.CUSTOMER_CREDIT, A.RECEIVABLE),
    (ledger.credit_sold, K.CREDIT_SOLD, A.CASH, A.CUSTOMER_CREDIT),
    (ledger.credit_given, K.CREDIT_GIVEN, A.PROMOTIONS, A.CUSTOMER_CREDIT),
    (
        partial(ledger.credit_expired, given=True),
        K.CREDIT_EXPIRED,
        A.CUSTOMER_CREDIT,
        A.PROMOTIONS,
    ),
    (partial(ledger.credit_expired, given=False), K.CREDIT_EXPIRED, A.CUSTOMER_CREDIT, A.REVENUE),
    (ledger.wallet_top_up, K.WALLET_TOP_UP, A.CASH, A.WALLET),
    (ledger.wallet_draw, K.WALLET_DRAW, A.WALLET, A.RECEIVABLE),
    (ledger.write_off, K.WRITE_OFF, A.WRITE_OFF, A.RECEIVABLE),
    (ledger.write_off_recovered, K.WRITE_OFF_RECOVERED, A.RECEIVABLE, A.WRITE_OFF),
]


def test_every_kind_has_its_row() -> None:
    assert {kind for _, kind, _, _ in MOVES} == set(PostingKind)


@pytest.mark.parametrize(("post", "kind", "debit", "credit"), MOVES)
def test_postings(
    post: Callable[..., Posting], kind: PostingKind, debit: Account, credit: Account
) -> None:
    posting = post(1999, currency="usd")
    assert posting.kind is kind
    assert balances([posting]) == {(debit, "usd"): 1999, (credit, "usd"): -1999}
    for amount in (0, -1):
        with pytest.raises(AmountNotPositive):
            post(amount, currency="usd")
    with pytest.raises(CurrencyUnknown):
        post(1, currency="zzz")


@given(st.sampled_from(MOVES), amounts, codes)
def test_every_posting_sums_to_zero(
    move: tuple[Callable[..., Posting], PostingKind, Account, Account], amount: int, code: str
) -> None:
    posting = move[0](amount, currency=code)
    assert sums(posting.entries) == {code: 0}


@given(st.data(), amounts)
def test_tax_is_not_revenue_and_voiding_undoes_all(data: st.DataObject, total: int) -> None:
    tax = data.draw(st.integers(0, total))
    issued = ledger.invoice_issued(total, currency="eur", tax=tax)
    found = balances([issued])
    assert found[A.RECEIVABLE, "eur"] == total
    assert found.get((A.TAX, "eur"), 0) == -tax
    assert found.get((A.REVENUE, "eur"), 0) == tax - total
    voided = ledger.invoice_voided(total, currency="eur", tax=tax)
    assert set(balances([issued, voided]).values()) == {0}


@pytest.mark.parametrize("tax", [-1, 101])
def test_tax_lies_within_the_total(tax: int) -> None:
    with pytest.raises(AmountNotPositive):
        ledger.invoice_issued(100, currency="usd", tax=tax)


@given(st.lists(st.tuples(st.sampled_from(A), st.integers(-99, 99), codes), min_size=1))
def test_an_unbalanced_posting_cannot_be_made(rows: list[tuple[Account, int, str]]) -> None:
    entries = tuple(Entry(account, amount, code) for account, amount, code in rows)
    if any(entry.amount == 0 for entry in entries):
        with pytest.raises(PostingEmpty):
            Posting(K.WRITE_OFF, entries)
    elif any(sums(entries).values()):
        with pytest.raises(PostingUnbalanced):
            Posting(K.WRITE_OFF, entries)
    else:
        assert Posting(K.WRITE_OFF, entries).entries == entries


def test_each_currency_balances_by_itself() -> None:
    with pytest.raises(PostingUnbalanced) as refused:
        Posting(K.PAYMENT_RECEIVED, (Entry(A.CASH, 5, "usd"), Entry(A.RECEIVABLE, -5, "eur")))
    assert (refused.value.currency, refused.value.difference) == ("usd", 5)


def test_an_empty_posting_cannot_be_made() -> None:
    with pytest.raises(PostingEmpty):
        Posting(K.WRITE_OFF, ())


def test_an_invoice_paid_in_three_ways_leaves_nothing_owed() -> None:
    found = balances(
        [
            ledger.credit_granted(300, currency="usd"),
            ledger.wallet_top_up(1000, currency="usd"),
            ledger.invoice_issued(2500, currency="usd", tax=400),
            ledger.credit_applied(300, currency="usd"),
            ledger.wallet_draw(1000, currency="usd"),
            ledger.payment_received(1200, currency="usd"),
        ]
    )
    assert found == {
        (A.REVENUE, "usd"): 300 - 2100,
        (A.CUSTOMER_CREDIT, "usd"): 0,
        (A.CASH, "usd"): 2200,
        (A.WALLET, "usd"): 0,
        (A.RECEIVABLE, "usd"): 0,
        (A.TAX, "usd"): -400,
    }
