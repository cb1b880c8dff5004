"""Ids as people see them: a prefix that says what it is, then Crockford's base 32, lower case.

Entities are 63-bit integers: 41 bits of milliseconds since 2020 and 22 random ones, so that ids
sort by age and tell nobody how many there are. What belongs to one customer's metering (events,
holds, decisions) carries the customer in its public id, so that a statement that finds it can
always name the customer.
"""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]
_TRIPLES = [pair + third for pair in _PAIRS for third in ALPHABET]
_FIFTEEN_BITS = (1 << 15) - 1
_VALUES = {letter: value for value, letter in enumerate(ALPHABET)}
_ENTITY_LENGTH = 13
_UUID_LENGTH = 26
_EPOCH_MS = 1_577_836_800_000  # 2020-01-01T00:00:00Z
_RANDOM_BITS = 22
ENTITY_MAX = (1 << 63) - 1


class IdMalformed(ValueError):
    """The text is not an id of the kind asked for."""


def entity_id(*, milliseconds: int, random_bits: int) -> int:
    """Make an entity's id from the time in Unix milliseconds and 22 random bits."""
    elapsed = max(milliseconds - _EPOCH_MS, 0)
    return ((elapsed << _RANDOM_BITS) | (random_bits & ((1 << _RANDOM_BITS) - 1))) & ENTITY_MAX


def encode(prefix: str, number: int) -> str:
    """Return the public form of an entity's id, such as `cus_01h2…`."""
    return f"{prefix}_{_entity_digits(number)}"


def decode(prefix: str, text: str) -> int:
    """Return the entity's number in a public id; raises IdMalformed for anything else."""
    return _number(_body(prefix, text, _ENTITY_LENGTH), ENTITY_MAX)


def encode_owned(prefix: str, *, customer_id: int, key: UUID | int) -> str:
    """Return the public id of something that belongs to a customer's metering."""
    number = key if isinstance(key, int) else key.int
    return f"{prefix}_{_entity_digits(customer_id)}{_uuid_digits(number)}"


def decode_owned(prefix: str, text: str) -> tuple[int, UUID]:
    """Return (customer_id, key) of an id made by `encode_owned`; raises IdMalformed."""
    body = _body(prefix, text, _ENTITY_LENGTH + _UUID_LENGTH)
    customer_id = _number(body[:_ENTITY_LENGTH], ENTITY_MAX)
    return customer_id, UUID(int=_number(body[_ENTITY_LENGTH:], (1 << 128) - 1))


@lru_cache(maxsize=65_536)
def _entity_digits(number: int) -> str:
    return _digits(number, _ENTITY_LENGTH)


def _digits(number: int, length: int) -> str:
    pairs = []
    for _ in range((length + 1) // 2):
        pairs.append(_PAIRS[number & 1023])
        number >>= 10
    pairs.reverse()
    return "".join(pairs)[-length:]


def _uuid_digits(number: int) -> str:
    """128 bits, fifteen at a time and without a loop: every call of the gate writes such an id."""
    triples, mask = _TRIPLES, _FIFTEEN_BITS
    return (
        f"{_PAIRS[number >> 120]}{triples[number >> 105 & mask]}{triples[number >> 90 & mask]}"
        f"{triples[number >> 75 & mask]}{triples[number >> 60 & mask]}"
        f"{triples[number >> 45 & mask]}{triples[number >> 30 & mask]}"
        f"{triples[number >> 15 & mask]}{triples[number & mask]}"
    )


def _body(prefix: str, text: str, length: int) -> str:
    head, _, body = text.partition("_")
    if head != prefix or len(body) != length:
        raise IdMalformed(f"{text[:60]!r} is not an id of the form {prefix}_…")
    return body


def _number(body: str, largest: int) -> int:
    number = 0
    for letter in body:
        value = _VALUES.get(letter)
        if value is None:
            raise IdMalformed(f"{letter!r} does not occur in an id")
        number = (number << 5) | value
    if number > largest:
        raise IdMalformed("the id is out of range")
    return number
