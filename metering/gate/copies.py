"""The copies of customers that a gate process keeps, and how references lead to them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from metering.domain.account import Account
from metering.gate.calls import Reference

KEYS_KNOWN = 1_000  # of one customer, and those of the batch that was read last
NAMES_A_COPY = 2  # keys, and outside ids, that are known on average
Name = TypeVar("Name", bytes, str)


class Copies:
    """At most `size` accounts, the ones seen last. What is dropped is read again when needed.

    Where a name leads is forgotten when many came after it: whoever comes with it is read again.
    `size` must be as much as all flights read at a time, so that none loses what it has just read.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.changes = 0  # how often an account was taken in or dropped
        self._accounts: OrderedDict[int, Account] = OrderedDict()
        self._by_digest: OrderedDict[bytes, int] = OrderedDict()
        self._by_external: OrderedDict[str, int] = OrderedDict()

    def customer_of(self, reference: Reference) -> int | None:
        """The customer a reference led to when it was last read; None = not known here."""
        if reference.customer_id is not None:
            return reference.customer_id
        if reference.digest is not None:
            return self._by_digest.get(reference.digest)
        assert reference.external_id is not None
        return self._by_external.get(reference.external_id)

    def of(self, reference: Reference) -> Account | None:
        """The copy a reference leads to; it counts as seen."""
        customer_id = self.customer_of(reference)
        account = None if customer_id is None else self._accounts.get(customer_id)
        if account is not None:
            self._accounts.move_to_end(account.customer_id)
        return account

    def named(self, reference: Reference) -> Account | None:
        """The copy that a reference leads to, where it still names that customer.

        A name may have gone from the customer that it led to when last read to another one.
        """
        digest = reference.digest
        if digest is None:
            account = self.of(reference)
            return account if account is not None and names(reference, account) else None
        account = self._accounts.get(self._by_digest.get(digest, 0))
        if account is None or digest not in account.keys:
            return None
        self._accounts.move_to_end(account.customer_id)
        return account

    def keep(self, account: Account) -> None:
        """Take in a copy that was just read, in place of an older one."""
        self.changes += 1
        for digest in account.keys:
            self._lead(self._by_digest, digest, account.customer_id)
        if account.external_id is not None:
            self._lead(self._by_external, account.external_id, account.customer_id)
        before = self._accounts.pop(account.customer_id, None)
        same = before is not None and before.version == account.version
        if before is not None and same and len(before.keys) < KEYS_KNOWN:
            # Keys are guarded by the version too: what was known of them still holds.
            account.keys = before.keys | account.keys
        self._accounts[account.customer_id] = account
        while len(self._accounts) > self._size:
            _, oldest = self._accounts.popitem(last=False)
            self._forget_references(oldest)

    def drop(self, customer_id: int) -> None:
        """Forget a copy that may no longer be true; where its references led is still known."""
        self._accounts.pop(customer_id, None)
        self.changes += 1

    def clear(self) -> None:
        """Forget all copies."""
        self._accounts.clear()
        self._by_digest.clear()
        self._by_external.clear()
        self.changes += 1

    def _lead(self, names: OrderedDict[Name, int], name: Name, customer_id: int) -> None:
        names[name] = customer_id
        names.move_to_end(name)
        if len(names) > NAMES_A_COPY * self._size:
            names.popitem(last=False)

    def _forget_references(self, account: Account) -> None:
        for digest in account.keys:
            self._by_digest.pop(digest, None)
        if account.external_id is not None:
            self._by_external.pop(account.external_id, None)


def names(reference: Reference, account: Account) -> bool:
    """Whether a reference still leads to this customer, as the copy has it."""
    if reference.digest is not None:
        return reference.digest in account.keys
    if reference.external_id is not None:
        return reference.external_id == account.external_id
    return True
