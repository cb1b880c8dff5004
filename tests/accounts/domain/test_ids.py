"""Public ids: round trip, order by age, and no crash on anything."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.domain import ids

numbers = st.integers(0, ids.ENTITY_MAX)
prefixes = st.sampled_from(["cus", "key", "gw", "hold", "mem"])


@given(prefixes, numbers)
def test_what_is_encoded_is_decoded(prefix: str, number: int) -> None:
    text = ids.encode(prefix, number)
    assert ids.decode(prefix, text) == number
    assert text == text.lower()


@given(numbers, numbers)
def test_ids_sort_as_their_numbers(one: int, other: int) -> None:
    assert (one < other) == (ids.encode("cus", one) < ids.encode("cus", other))


@given(prefixes, numbers, st.uuids())
def test_owned_ids_carry_their_customer(prefix: str, customer_id: int, key: UUID) -> None:
    text = ids.encode_owned(prefix, customer_id=customer_id, key=key)
    assert ids.decode_owned(prefix, text) == (customer_id, key)


@given(st.text() | st.text(alphabet=ids.ALPHABET, min_size=13, max_size=13).map("cus_{}".format))
def test_any_text_is_an_id_of_its_number_or_refused(text: str) -> None:
    try:
        number = ids.decode("cus", text)
    except ids.IdMalformed:
        return
    assert ids.encode("cus", number) == text


@given(st.text() | st.text(alphabet=ids.ALPHABET, min_size=39, max_size=39).map("evt_{}".format))
def test_any_text_is_an_owned_id_or_refused(text: str) -> None:
    try:
        customer_id, key = ids.decode_owned("evt", text)
    except ids.IdMalformed:
        return
    assert ids.encode_owned("evt", customer_id=customer_id, key=key) == text


@given(st.integers(0, 2**42), st.integers(0, 2**42), st.integers(0, 2**22 - 1))
def test_later_ids_are_greater(one: int, other: int, random_bits: int) -> None:
    first, second = sorted((one, other))
    early = ids.entity_id(milliseconds=first, random_bits=random_bits)
    late = ids.entity_id(milliseconds=second, random_bits=random_bits)
    assert 0 <= early <= late <= ids.ENTITY_MAX or late < 2**22


@pytest.mark.parametrize("text", ["", "cus", "cus_", "key_0000000000000", "cus_000000000000u"])
def test_what_is_not_an_id_of_this_kind(text: str) -> None:
    with pytest.raises(ids.IdMalformed):
        ids.decode("cus", text)


def test_an_id_of_64_bits_is_out_of_range() -> None:
    with pytest.raises(ids.IdMalformed, match="range"):
        ids.decode("cus", "cus_zzzzzzzzzzzzz")
