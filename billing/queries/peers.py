"""Customers whose facts are read together: what is asked about one of them is read for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")
Reader = Callable[[Sequence[int]], Mapping[K, V]]


class Peers:
    """Some customers, and what was read about them so far: each kind of fact once, for all.

    What was read stays as it was, so that whoever writes any of it goes on with new peers; the
    customers are locked where something is decided by it.
    """

    def __init__(self, customer_ids: Iterable[int]) -> None:
        self.customer_ids: tuple[int, ...] = tuple(sorted(set(customer_ids)))
        self._read: dict[Any, Mapping[Any, Any]] = {}

    def ask(self, reader: Reader[K, V], key: K) -> V | None:
        """What `reader`, a function of some customers' ids, finds under `key`."""
        known = self._read.get(reader)
        if known is None:
            known = self._read[reader] = reader(self.customer_ids)
        found: V | None = known.get(key)
        return found
