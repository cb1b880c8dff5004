"""Work done by several threads at once, each on a database connection of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from django.db import connections

T = TypeVar("T")


def at_once(work: Sequence[Callable[[], T]]) -> list[T]:
    """Start all together, and return what each returned; the first error is raised."""
    barrier = Barrier(len(work))

    def run(each: Callable[[], T]) -> T:
        try:
            barrier.wait(timeout=30)
            return each()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(work)) as threads:
        return [future.result(timeout=60) for future in [threads.submit(run, w) for w in work]]
