"""Tax is taken as Stripe says it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from billing.domain.taxes import InvoiceTax, TaxRow, tax_id_kind

rows = st.builds(
    TaxRow,
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.booleans(),
    st.sampled_from(["standard_rated", "reverse_charge", ""]),
)


@given(st.lists(rows))
def test_what_is_kept_is_read_back_and_adds_up(given_rows: list[TaxRow]) -> None:
    tax = InvoiceTax(tuple(given_rows))
    assert InvoiceTax.from_json(tax.to_json()) == tax
    assert tax.added + tax.included == sum(row.amount for row in given_rows)


def test_stripes_taxes_are_read() -> None:
    tax = InvoiceTax.of_stripe(
        [
            {
                "amount": 380,
                "taxable_amount": 2_000,
                "tax_behavior": "exclusive",
                "taxability_reason": "standard_rated",
            },
            {"amount": 19, "taxable_amount": None, "tax_behavior": "inclusive"},
        ]
    )
    assert (tax.added, tax.included) == (380, 19)
    assert [row.words() for row in tax.rows] == ["Tax", "Tax, included in the total"]
    assert TaxRow(0, 5, included=False, reason="reverse_charge").words().startswith("Reverse")


def test_what_a_tax_id_is_called() -> None:
    assert (tax_id_kind("DE"), tax_id_kind("GB"), tax_id_kind("")) == ("eu_vat", "gb_vat", None)
