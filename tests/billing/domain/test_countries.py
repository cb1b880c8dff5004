"""The countries that a billing address may name."""

from __future__ import annotations

from billing.domain.countries import COUNTRIES


def test_they_are_the_officially_assigned_codes() -> None:
    assert len(COUNTRIES) == 249
    assert all(len(code) == 2 and code.isascii() and code.isupper() for code in COUNTRIES)
    assert {"AT", "DE", "GB", "US"} <= COUNTRIES
    assert not {"EU", "UK", "XK", "XX"} & COUNTRIES
