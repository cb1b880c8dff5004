"""Taking out of a customer's usage who did it, and leaving how much it was."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from django.db import connection
from django.db.models import Q

from metering import statements
from metering.models import QuarantinedEvent
from metering.operations.rolling_up import lock_slot, roll_up_waiting, slot_of

_BATCHES, _ROUNDS = 500, 1_000_000
_NAMING = """
DELETE FROM metering_quarantinedevent AS q
 USING unnest(%s::text[]) AS named (subject)
 WHERE q.shape <> ''
   AND jsonb_path_exists(q.properties, '$.** ? (@ == $named)',
                         jsonb_build_object('named', named.subject))
"""


def erase_usage(
    customer_id: int, *, subjects: Sequence[str], kept_dimensions: Sequence[str]
) -> int:
    """Put pseudonyms in the place of ids, members and dimensions; returns how many events it has.

    Dimensions of the names in `kept_dimensions` stay. The salt is thrown away, so nobody can go
    back, nor tell the same member of another customer. Balances, buckets and every total stay what
    they were (I1, I4). Events in quarantine that name one of `subjects` are deleted.

    In the transaction of the caller. The caller has raised the customer's version before: its calls
    wait until the end, and other erasures until then too.
    """
    with connection.cursor() as cursor:
        # Two that lock a slot each, and then all to roll up, would wait for one another.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('metering_erasure'))")
    lock_slot(slot_of(customer_id))
    # So that the texts are in the buckets, where the statement finds them; what others go on to
    # report is not waited for.
    roll_up_waiting(limit=_BATCHES, rounds=_ROUNDS)
    QuarantinedEvent.objects.filter(
        Q(customer_id=customer_id) | Q(subject__in=list(subjects))
    ).delete()
    with connection.cursor() as cursor:
        # What could not be translated may name them anywhere.
        cursor.execute(_NAMING, [list(subjects)])
        cursor.execute(
            statements.load("erase_usage"),
            {
                "customer_id": customer_id,
                "salt": secrets.token_hex(32),
                "kept": list(kept_dimensions),
            },
        )
        (events,) = cursor.fetchone()
    return int(events)
