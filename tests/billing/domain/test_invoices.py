from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.invoices import (
    CarriedAmount,
    Carry,
    Collect,
    Collectable,
    Credit,
    InvoiceEvent,
    InvoiceStatus,
    InvoiceTransitionRefused,
    LineDraft,
    LineKind,
    Zero,
    assemble,
    collectable,
    next_status,
)
from billing.domain.money import CURRENCIES, CurrencyUnknown
from billing.domain.periods import Period

APRIL = Period(datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC))
GOLDEN = yaml.safe_load((Path(__file__).parent / "golden" / "minimum.yaml").read_text())
S, E = InvoiceStatus, InvoiceEvent
amounts = st.integers(-(10**9), 10**9)


def line(kind: LineKind, amount: int) -> LineDraft:
    return LineDraft(kind, "a line", amount, APRIL)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["name"])
def test_golden_minimum(row: dict[str, Any]) -> None:
    draft = assemble(
        currency="usd",
        period=APRIL,
        fees=[line(LineKind.FEE, row["fee"])],
        usage=[line(LineKind.USAGE, amount) for amount in row["usage"]],
        adjustments=[line(LineKind.ADJUSTMENT, amount) for amount in row["adjustments"]],
        minimum=row["minimum"],
    )
    assert draft.total_of(LineKind.MINIMUM) == row["line"]
    assert any(part.kind is LineKind.MINIMUM for part in draft.lines) == (row["line"] > 0)
    assert draft.total == row["total"]


def test_an_invoice_with_everything() -> None:
    draft = assemble(
        currency="usd",
        period=APRIL,
        fees=[line(LineKind.FEE, 2000), line(LineKind.PRORATION, 1000)],
        usage=[line(LineKind.USAGE, 1000)],
        adjustments=[line(LineKind.ADJUSTMENT, -30)],
        carried=[CarriedAmount("inv_1", 40), CarriedAmount("inv_2", 0)],
        minimum=5000,
        credit_available=500,
    )
    assert [(part.kind, part.amount) for part in draft.lines] == [
        (LineKind.FEE, 2000),
        (LineKind.PRORATION, 1000),
        (LineKind.USAGE, 1000),
        (LineKind.MINIMUM, 1000),
        (LineKind.ADJUSTMENT, -30),
        (LineKind.ADJUSTMENT, 40),
        (LineKind.CREDIT, -500),
    ]
    assert draft.total == 4510
    assert draft.lines[3].description == "Up to the minimum of $50.00"
    assert draft.lines[3].detail == {"minimum": 5000, "spent": 4000}
    assert draft.lines[5].detail == {"carried_from": "inv_1"}


@given(
    st.lists(amounts, max_size=4),
    st.lists(amounts, max_size=4),
    st.lists(amounts, max_size=4),
    st.lists(st.integers(0, 10**6), max_size=3),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)
def test_the_total_is_the_sum_and_credit_never_makes_it_negative(
    fees: list[int],
    usage: list[int],
    adjustments: list[int],
    carried: list[int],
    minimum: int,
    credit: int,
) -> None:
    parts = {
        "fees": [line(LineKind.FEE, amount) for amount in fees],
        "usage": [line(LineKind.USAGE, amount) for amount in usage],
        "adjustments": [line(LineKind.ADJUSTMENT, amount) for amount in adjustments],
    }
    draft = assemble(
        currency="usd",
        period=APRIL,
        **parts,
        carried=[CarriedAmount("inv_1", amount) for amount in carried],
        minimum=minimum,
        spent_before=0,
        credit_available=credit,
    )
    used_credit = -draft.total_of(LineKind.CREDIT)
    spent = max(sum(fees) + sum(usage), minimum)
    assert draft.total == spent + sum(adjustments) + sum(carried) - used_credit
    assert 0 <= used_credit <= credit
    assert not used_credit or draft.total >= 0
    assert used_credit == credit or draft.total <= 0


def test_an_unknown_currency_makes_no_invoice() -> None:
    with pytest.raises(CurrencyUnknown):
        assemble(currency="zzz", period=APRIL)


@pytest.mark.parametrize(
    ("total", "currency", "minimum", "expected"),
    [
        (50, "usd", None, Collect(50)),
        (49, "usd", None, Carry(49)),
        (1, "usd", None, Carry(1)),
        (0, "usd", None, Zero()),
        (-20, "usd", None, Credit(20)),
        (30, "gbp", None, Collect(30)),
        (49, "jpy", None, Carry(49)),
        (1, "usd", 0, Collect(1)),
        (0, "usd", 0, Zero()),
        (99, "usd", 100, Carry(99)),
    ],
)
def test_collectable(total: int, currency: str, minimum: int | None, expected: Collectable) -> None:
    assert collectable(total, currency=currency, minimum=minimum) == expected


@given(amounts, st.sampled_from(sorted(CURRENCIES)))
def test_collectable_loses_nothing(total: int, currency: str) -> None:
    match collectable(total, currency=currency):
        case Collect(amount) | Carry(amount):
            assert amount == total > 0
        case Credit(amount):
            assert -amount == total < 0
        case Zero():
            assert total == 0


def test_collectable_refuses_unknown_currencies() -> None:
    with pytest.raises(CurrencyUnknown):
        collectable(100, currency="zzz")


MOVES = {
    (S.DRAFT, E.FINALIZED): S.OPEN,
    (S.DRAFT, E.VOIDED): S.VOID,
    (S.OPEN, E.FINALIZED): S.OPEN,
    (S.OPEN, E.PAID): S.PAID,
    (S.OPEN, E.VOIDED): S.VOID,
    (S.OPEN, E.MARKED_UNCOLLECTIBLE): S.UNCOLLECTIBLE,
    (S.UNCOLLECTIBLE, E.MARKED_UNCOLLECTIBLE): S.UNCOLLECTIBLE,
    (S.UNCOLLECTIBLE, E.PAID): S.PAID,
    (S.UNCOLLECTIBLE, E.VOIDED): S.VOID,
    (S.PAID, E.PAID): S.PAID,
    (S.VOID, E.VOIDED): S.VOID,
}


@pytest.mark.parametrize(("status", "event"), list(product(S, E)))
def test_states_of_an_invoice(status: InvoiceStatus, event: InvoiceEvent) -> None:
    if (status, event) in MOVES:
        assert next_status(status, event=event) == MOVES[status, event]
        return
    with pytest.raises(InvoiceTransitionRefused) as refused:
        next_status(status, event=event)
    assert (refused.value.status, refused.value.event) == (status, event)


@given(st.sampled_from([S.PAID, S.VOID]), st.lists(st.sampled_from(E)))
def test_final_states_are_never_left(status: InvoiceStatus, events: list[InvoiceEvent]) -> None:
    for event in events:
        try:
            assert next_status(status, event=event) == status
        except InvoiceTransitionRefused:
            continue
