"""metering.gate.copies: as many copies as are allowed, and names in proportion to them."""

from __future__ import annotations

from metering.domain.account import Account, KeyState
from metering.gate.calls import Reference
from metering.gate.copies import KEYS_KNOWN, NAMES_A_COPY, Copies

SIZE = 10


def account(customer_id: int, *keys: int, version: int = 1, external: str | None = None) -> Account:
    """A copy that was read for these keys."""
    return Account(
        customer_id,
        version,
        external or f"external-{customer_id}",
        keys={digest(key): KeyState(key, None, None) for key in keys},
    )


def digest(key: int) -> bytes:
    """The digest of a key."""
    return key.to_bytes(32)


def by_key(key: int) -> Reference:
    """How a call names its customer that came with this key."""
    return Reference(digest=digest(key))


def named(copies: Copies) -> tuple[int, int]:
    """How many digests and outside ids are known."""
    return len(copies._by_digest), len(copies._by_external)


def test_names_of_what_was_dropped_are_not_kept_for_ever() -> None:
    copies = Copies(SIZE)
    for n in range(1, 1_001):
        copies.keep(account(n, n))
        copies.drop(n)
    assert max(named(copies)) <= SIZE * NAMES_A_COPY
    # Of those dropped last it is still known where they led: their calls keep to one line.
    assert copies.customer_of(by_key(1_000)) == 1_000
    assert copies.customer_of(Reference(external_id="external-1000")) == 1_000
    assert copies.named(by_key(1_000)) is None


def test_names_that_a_customer_has_no_more_are_not_kept_for_ever() -> None:
    copies = Copies(SIZE)
    for n in range(1, 1_001):
        copies.keep(account(1, n, version=n, external=f"external-{n}"))
    assert max(named(copies)) <= SIZE * NAMES_A_COPY
    found = copies.named(by_key(1_000))
    assert found is not None
    assert found.version == 1_000


def test_a_copy_knows_so_many_keys_and_those_just_read() -> None:
    copies = Copies(KEYS_KNOWN)
    for n in range(1, 3 * KEYS_KNOWN):
        copies.keep(account(1, n, -n % 7 + 10_000))
        found = copies.named(by_key(n))
        assert found is not None
        assert len(found.keys) <= KEYS_KNOWN + 2
        assert copies.named(by_key(-n % 7 + 10_000)) is found


def test_keys_of_one_version_are_known_together() -> None:
    copies = Copies(SIZE)
    copies.keep(account(1, 1))
    copies.keep(account(1, 2))
    assert copies.named(by_key(1)) is copies.named(by_key(2)) is not None
    copies.keep(account(1, 3, version=2))
    assert copies.named(by_key(1)) is None


def test_a_copy_whose_name_went_is_found_again_when_it_is_read() -> None:
    copies = Copies(SIZE)
    copies.keep(account(1, 1))
    for n in range(2, 100):
        copies.keep(account(2, n, version=n))
    assert copies.named(by_key(1)) is None
    assert copies.of(Reference(customer_id=1)) is not None
    copies.keep(account(1, 1))
    assert copies.named(by_key(1)) is copies.of(Reference(customer_id=1))


def test_the_copies_seen_last_stay() -> None:
    copies = Copies(SIZE)
    for n in range(1, SIZE + 1):
        copies.keep(account(n, n))
    assert copies.named(by_key(1)) is not None
    copies.keep(account(11, 11))
    assert [n for n in range(1, 12) if copies.named(by_key(n)) is None] == [2]
    assert copies.customer_of(by_key(2)) is None
    assert copies.customer_of(Reference(external_id="external-2")) is None
