"""Work done by several threads at once, each on a database connection of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from django.db import connection, connections

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


def someone_waits_for_me() -> bool:
    """Whether another transaction waits for a lock that this thread's transaction holds.

    Asked of the locks themselves: `pg_stat_activity` is read once a transaction, and says the same
    until it ends.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted"
            " AND pg_backend_pid() = ANY (pg_blocking_pids(pid)))"
        )
        row: tuple[bool] = cursor.fetchone()
    return row[0]
