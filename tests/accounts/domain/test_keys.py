"""Keys: the checksum catches what people do to them, and parsing never crashes."""

from __future__ import annotations

import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.domain.keys import KeyKind, KeyMalformed, NewKey, digest_of, new_key, parse_key

kinds = st.sampled_from(list(KeyKind))
entropies = st.binary(min_size=32, max_size=64)


@st.composite
def made_keys(draw: st.DrawFn) -> NewKey:
    return new_key(draw(kinds), entropy=draw(entropies))


@given(kinds, entropies)
def test_a_new_key_is_of_its_kind_and_hides_behind_its_digest(
    kind: KeyKind, entropy: bytes
) -> None:
    made = new_key(kind, entropy=entropy)
    assert parse_key(made.text) is kind
    assert made.text.startswith(made.prefix)
    assert len(made.prefix) == len(kind) + 8
    assert made.digest == digest_of(made.text) == hashlib.sha256(made.text.encode()).digest()


@given(made_keys(), st.data())
def test_every_change_of_one_character_is_caught(made: NewKey, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(made.text) - 1))
    letters = string.printable + "ä\x00"
    letter = data.draw(st.sampled_from(letters).filter(lambda each: each != made.text[place]))
    with pytest.raises(KeyMalformed) as refused:
        parse_key(made.text[:place] + letter + made.text[place + 1 :])
    assert made.text[-12:] not in str(refused.value)


def test_every_change_of_one_character_of_one_key_is_caught() -> None:
    made = new_key(KeyKind.CUSTOMER, entropy=bytes(range(32)))
    for place, right in enumerate(made.text):
        for letter in string.ascii_letters + string.digits:
            if letter != right:
                with pytest.raises(KeyMalformed):
                    parse_key(made.text[:place] + letter + made.text[place + 1 :])


@given(made_keys(), st.data())
def test_lost_and_doubled_characters_are_caught(made: NewKey, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(made.text) - 1))
    for changed in (
        made.text[:place] + made.text[place + 1 :],
        made.text[: place + 1] + made.text[place:],
    ):
        with pytest.raises(KeyMalformed):
            parse_key(changed)


@given(
    st.text()
    | st.text().map("fb_gw_{}".format)
    | st.text(min_size=38, max_size=38).map("fb_op_{}".format)
)
def test_parsing_any_text_gives_a_kind_or_a_sentence(text: str) -> None:
    try:
        kind = parse_key(text)
    except KeyMalformed:
        return
    assert text.startswith(kind)


def test_a_key_needs_enough_randomness() -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        new_key(KeyKind.OPERATOR, entropy=bytes(31))
