"""Credentials: `fb_gw_…`, `fb_op_…`, `fb_key_…`: what they look like and how they are kept.

A key is its kind, 32 random base-62 characters (190 bits) and a checksum of six, so that a typing
error is refused without asking the database. Only the SHA-256 of the whole text is stored: with
190 random bits a slow hash would protect nothing and cost every call.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from enum import StrEnum

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SECRET_LENGTH = 32
_CHECKSUM_LENGTH = 6
_SHOWN_LENGTH = 8


class KeyKind(StrEnum):
    """Who carries the key."""

    GATEWAY = "fb_gw_"
    OPERATOR = "fb_op_"
    CUSTOMER = "fb_key_"


class KeyMalformed(ValueError):
    """The text cannot be a key: wrong prefix, length, letters or checksum."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as it is handed out once, and the parts that are kept."""

    text: str
    prefix: str
    digest: bytes


def new_key(kind: KeyKind, *, entropy: bytes) -> NewKey:
    """Make a key from at least 32 random bytes; the caller supplies them and shows `text` once."""
    if len(entropy) < SECRET_LENGTH:
        raise ValueError(f"a key needs {SECRET_LENGTH} random bytes")
    number = int.from_bytes(entropy, "big")
    secret = _base62(number, SECRET_LENGTH)
    text = f"{kind.value}{secret}{_checksum(kind.value + secret)}"
    return NewKey(text, text[: len(kind.value) + _SHOWN_LENGTH], digest_of(text))


def digest_of(text: str) -> bytes:
    """The SHA-256 under which a key is stored and looked up."""
    return hashlib.sha256(text.encode()).digest()


def parse_key(text: str) -> KeyKind:
    """Return the kind of a well-formed key; raises KeyMalformed, without repeating the key."""
    for kind in KeyKind:
        if text.startswith(kind.value):
            break
    else:
        raise KeyMalformed("a Farebox key begins with fb_gw_, fb_op_ or fb_key_")
    body = text[len(kind.value) :]
    if len(body) != SECRET_LENGTH + _CHECKSUM_LENGTH:
        raise KeyMalformed("the key is too short or too long")
    if not body.isascii() or not body.isalnum():
        raise KeyMalformed("the key has characters that no key has")
    if _checksum(text[:-_CHECKSUM_LENGTH]) != body[SECRET_LENGTH:]:
        raise KeyMalformed("the key's checksum does not match: a character is wrong")
    return kind


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    letters = []
    for _ in range(length):
        number, value = divmod(number, 62)
        letters.append(_ALPHABET[value])
    return "".join(reversed(letters))
