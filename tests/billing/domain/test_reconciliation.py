from hypothesis import given
from hypothesis import strategies as st

from billing.domain.reconciliation import Compared, Difference, How, Kept, differences

INVOICE = Compared.INVOICE
records = st.dictionaries(
    st.sampled_from(["in_1", "in_2", "in_3"]),
    st.builds(
        Kept, st.integers(-9, 9), st.sampled_from(["usd", "eur"]), st.sampled_from(["open", ""])
    ),
)


def test_equal_sides_differ_in_nothing() -> None:
    same = {"in_1": Kept(5, "usd", "paid", "inv_1")}
    assert differences(INVOICE, same, dict(same)) == []


def test_what_is_missing_says_where_and_what_the_other_has() -> None:
    here = {"in_1": Kept(5, "usd", "paid", "inv_1")}
    assert differences(INVOICE, here, {}) == [
        Difference(INVOICE, How.MISSING_THERE, "in_1", "inv_1", "5 usd paid", "")
    ]
    assert differences(INVOICE, {}, here) == [
        Difference(INVOICE, How.MISSING_HERE, "in_1", "inv_1", "", "5 usd paid")
    ]


def test_amounts_currencies_and_statuses_are_compared() -> None:
    here = {"in_1": Kept(5, "usd", "open", "inv_1")}
    there = {"in_1": Kept(5, "eur", "paid")}
    assert differences(INVOICE, here, there) == [
        Difference(INVOICE, How.AMOUNT, "in_1", "inv_1", "5 usd", "5 eur"),
        Difference(INVOICE, How.STATUS, "in_1", "inv_1", "open", "paid"),
    ]


@given(records, records)
def test_both_directions_find_the_same(here: dict[str, Kept], there: dict[str, Kept]) -> None:
    mirrored = {How.MISSING_HERE: How.MISSING_THERE, How.MISSING_THERE: How.MISSING_HERE}
    one = {(d.stripe_id, d.how) for d in differences(INVOICE, here, there)}
    other = {(d.stripe_id, mirrored.get(d.how, d.how)) for d in differences(INVOICE, there, here)}
    assert one == other
    assert (one == set()) == (here == there)
