"""A worker that closes and charges, and kills itself where it is told to: a life for each line.

`python -m tests.billing.payments.dying_worker` reads lines of JSON {"dies_at", "now"}. Each life is
a process of its own that closes one period, issues and pushes one invoice and reads its payment;
told {"top_up": true} it begins, pushes and charges one top-up instead.
Before its `dies_at`-th boundary (a statement, a commit, a call to Stripe) it sends itself SIGKILL,
so that nothing is cleaned up; 0: it dies of old age. It prints where it died, or all that it met.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import django
import stripe


class Life:
    """Counts boundaries, and ends at one of them."""

    def __init__(self, dies_at: int) -> None:
        self._dies_at = dies_at
        self.met: list[str] = []

    def boundary(self, what: str) -> None:
        """What comes next is not done any more if this is where it ends."""
        self.met.append(what)
        if len(self.met) == self._dies_at:
            print(json.dumps({"died_before": what}), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Live as often as there are lines."""
    django.setup()
    _live(Life(0), now=None, top_up=False)  # what is imported by now need not be in every life
    for line in sys.stdin:
        wish = json.loads(line)
        child = os.fork()
        if child == 0:
            now = datetime.fromisoformat(wish["now"])
            _live(Life(wish["dies_at"]), now=now, top_up=wish["top_up"])
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status) != 0:
            print(json.dumps({"failed": os.waitstatus_to_exitcode(status)}), flush=True)


def _live(life: Life, *, now: datetime | None, top_up: bool) -> None:
    from django.db import connection
    from django.db.backends.base.base import BaseDatabaseWrapper

    from billing.operations import closing, issuing, topping_up
    from billing.payments import charging, client, mirroring, pushing

    if now is None:
        return
    commit = BaseDatabaseWrapper._commit  # type: ignore[attr-defined]

    def told_commit(self: BaseDatabaseWrapper) -> None:
        life.boundary("COMMIT")
        commit(self)

    def told_statement(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        life.boundary(_shape(sql))
        return execute(sql, *rest)

    class ToldClient(stripe.RequestsClient):
        def request(self, method: str, url: str, headers: Any, post_data: Any = None) -> Any:  # type: ignore[override]
            life.boundary(f"{method} {client._endpoint('', url.split('?', maxsplit=1)[0]).strip()}")
            return super().request(method, url, headers, post_data)

    BaseDatabaseWrapper._commit = told_commit  # type: ignore[attr-defined]
    client.transport = lambda: ToldClient(timeout=20)
    connection.ensure_connection()
    with connection.execute_wrapper(told_statement):
        if top_up:
            topping_up.top_up_due(now=now, limit=1)
        else:
            closing.close_due(now=now, limit=1)
            issuing.issue_due(now=now, limit=1)
        pushing.push_due(now=now, limit=1)
        if top_up:
            charging.charge_due(now=now, limit=1)
        mirroring.sweep(now=now, limit=1)
    print(json.dumps({"met": life.met}), flush=True)


def _shape(sql: str) -> str:
    """A statement without its lists, so that the same one is known again."""
    return re.sub(r"\s+", " ", re.sub(r"%s(, %s)*", "%s", sql))[:200]


if __name__ == "__main__":
    main()
