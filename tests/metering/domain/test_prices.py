"""metering.domain.prices: what tokens cost, to the last digit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.prices import (
    CHARGED_AS,
    PLACES,
    PRICE_MAX,
    TOKEN_CLASSES,
    PriceBook,
    PriceChange,
    PriceSchedule,
    PriceUnknown,
    books_of,
    described,
    difference,
    price_of,
    price_text,
    scaled,
)

NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
prices = st.decimals(0, 1_000, places=PLACES)
classes = st.sampled_from(list(TOKEN_CLASSES))
tables = st.dictionaries(st.tuples(st.sampled_from("abc"), classes), prices, max_size=8)


def book(**models: dict[str, str]) -> PriceBook:
    """A book of prices in the main unit."""
    return PriceBook(
        {
            model: {name: scaled(Decimal(price)) for name, price in row.items()}
            for model, row in models.items()
        }
    )


# Worked by hand, each product in billionths of a dollar (nano), for a model at
# input 2.50, output 10, cached 1.25, cache write 3.125, reasoning 12, audio in 40, audio out 80
# dollars per million tokens.
FULL = {
    "input": "0.0000025",
    "output": "0.00001",
    "cached_input": "0.00000125",
    "cache_write": "0.000003125",
    "reasoning": "0.000012",
    "audio_input": "0.00004",
    "audio_output": "0.00008",
}


@pytest.mark.parametrize(
    ("tokens", "nano"),
    [
        ({"input": 1_000_000}, 2_500_000_000),  # 2.50 USD
        ({"output": 123}, 1_230_000),  # 123 x 10,000
        ({"cached_input": 7}, 8_750),  # 7 x 1,250
        ({"cache_write": 3}, 9_375),  # 3 x 3,125
        ({"reasoning": 11}, 132_000),  # 11 x 12,000
        ({"audio_input": 2}, 80_000),  # 2 x 40,000
        ({"audio_output": 5}, 400_000),  # 5 x 80,000
        (dict.fromkeys(FULL, 10), 1_488_750),  # 10 x (2500+10000+1250+3125+12000+40000+80000)
        ({}, 0),
        ({"input": 0}, 0),
    ],
)
def test_hand_worked_costs_of_each_class(tokens: dict[str, int], nano: int) -> None:
    assert book(m=FULL).cost("m", tokens) == nano


def test_a_class_without_a_price_is_charged_as_the_class_it_is_a_kind_of() -> None:
    plain = book(m={"input": "0.000002", "output": "0.000008"})
    for name, like in CHARGED_AS.items():
        assert plain.cost("m", {name: 9}) == plain.cost("m", {like: 9}) > 0
    with pytest.raises(PriceUnknown, match="no price of output tokens for 'm'"):
        book(m={"input": "0.000002"}).cost("m", {"output": 1})
    with pytest.raises(PriceUnknown, match="no price of reasoning tokens"):
        book(m={"input": "0.000002"}).cost("m", {"reasoning": 1})
    # None used, none needed.
    assert book(m={"input": "0.000002"}).cost("m", {"input": 1, "output": 0}) == 2_000


def test_rounding_is_once_and_half_up() -> None:
    half = book(m={"input": "0.0000000005"})  # half a nano per token
    assert [half.cost("m", {"input": n}) for n in (1, 2, 3)] == [1, 1, 2]
    third = book(m={"input": "0.0000000004", "output": "0.0000000001"})
    assert third.cost("m", {"input": 1}) == 0
    assert third.cost("m", {"input": 1, "output": 1}) == 1  # 0.4 + 0.1, rounded together


@given(
    row=st.dictionaries(classes, prices, min_size=1),
    numbers=st.dictionaries(classes, st.integers(0, 10**9)),
)
def test_a_cost_is_the_exact_sum_rounded_half_up(
    row: dict[str, Decimal], numbers: dict[str, int]
) -> None:
    priced = {name: n for name, n in numbers.items() if name in row}
    exact = sum((row[name] * n for name, n in priced.items()), Decimal(0))
    nano = (exact * 10**9).quantize(Decimal(1), rounding=ROUND_HALF_UP)
    made = PriceBook({"m": {name: scaled(price) for name, price in row.items()}})
    assert made.cost("m", priced) == int(nano)


def test_a_model_goes_by_its_name_then_by_the_longest_pattern() -> None:
    given_ = book(
        **{
            "gpt-4o": {"input": "1"},
            "gpt-4*": {"input": "2"},
            "gpt-4o-m*": {"input": "3"},
            "*": {"input": "4"},
        }
    )
    assert [given_.row_of(name) for name in ("gpt-4o", "gpt-4.1", "gpt-4o-mini", "claude")] == [
        "gpt-4o",
        "gpt-4*",
        "gpt-4o-m*",
        "*",
    ]


def test_an_unknown_model_is_told_its_nearest_names() -> None:
    known = book(**{"gpt-4o": {"input": "1"}, "gpt-4o-mini": {"input": "1"}})
    with pytest.raises(PriceUnknown) as unknown:
        known.row_of("gpt-4oo")
    assert unknown.value.nearest[0] == "gpt-4o"
    assert "Names like it: gpt-4o" in unknown.value.detail
    with pytest.raises(PriceUnknown) as unknown:
        known.cost("nothing" * 1_000, {})
    assert (unknown.value.nearest, len(unknown.value.detail) < 200) == ([], True)


def test_the_version_that_stands_prices() -> None:
    schedule = PriceSchedule(
        "llm", (NOW, NOW + timedelta(days=1)), (book(m={"input": "1"}), book(m={"input": "2"}))
    )
    for after, nano in ((0, 10**9), (86_399, 10**9), (86_400, 2 * 10**9), (10**7, 2 * 10**9)):
        at = NOW + timedelta(seconds=after)
        assert schedule.book_at(at).cost("m", {"input": 1}) == nano
    with pytest.raises(PriceUnknown, match="'llm' has no version that early"):
        schedule.book_at(NOW - timedelta.resolution)
    with pytest.raises(PriceUnknown):
        PriceSchedule("llm", (), ()).book_at(NOW)


def test_books_are_made_of_rows() -> None:
    made = books_of([(1, "a", "input", "5"), (2, "a", "input", "6"), (1, "b*", "output", "7")])
    assert made[1].models == {"a": {"input": 5}, "b*": {"output": 7}}
    assert made[1].patterns == ("b*",)
    assert made[2].models == {"a": {"input": 6}}


@given(price=prices)
def test_a_price_survives_its_text(price: Decimal) -> None:
    text = price_text(price)
    assert text is not None
    assert price_of(text) == price
    assert "E" not in text
    assert not text.endswith(".")
    assert scaled(price) == price * 10**PLACES


def test_no_price_has_no_text() -> None:
    assert price_text(None) is None
    assert [price_text(Decimal(each)) for each in ("100", "0.500", "0")] == ["100", "0.5", "0"]


@pytest.mark.parametrize(
    "text",
    ["", "-1", "1e-6", "1.", ".5", " 1", "1,5", "NaN", "1000000.1", "9999999", "0." + "1" * 19],
)
def test_what_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="at most 18 places"):
        price_of(text)


def test_a_price_finer_than_is_kept_is_not_cut() -> None:
    assert price_of("1000000") == PRICE_MAX
    with pytest.raises(ValueError, match="more than 18 places"):
        scaled(Decimal("0.0000000000000000001"))


@given(before=tables, after=tables)
def test_a_difference_leads_from_one_version_to_the_other(
    before: dict[tuple[str, str], Decimal], after: dict[tuple[str, str], Decimal]
) -> None:
    diff = difference(before, after)
    reached = dict(before)
    for each in (*diff.added, *diff.changed, *diff.removed):
        key = (each.model, each.token_class)
        assert reached.get(key) == each.before
        if each.after is None:
            del reached[key]
        else:
            reached[key] = each.after
    assert reached == after
    assert difference(after, after) == difference({}, {})


def test_a_difference_reads_well() -> None:
    before = {("a", "input"): Decimal("0.000002"), ("b", "input"): Decimal(0)}
    after = {("a", "input"): Decimal("0.0000015"), ("c", "output"): Decimal("0.1")}
    assert described(difference(before, after)) == {
        "added": [
            {"model": "c", "class": "output", "before": None, "after": "0.1", "percent": None}
        ],
        "changed": [
            {
                "model": "a",
                "class": "input",
                "before": "0.000002",
                "after": "0.0000015",
                "percent": "-25.00",
            }
        ],
        "removed": [
            {"model": "b", "class": "input", "before": "0", "after": None, "percent": None}
        ],
    }
    assert PriceChange("b", "input", Decimal(0), Decimal(1)).percent is None
