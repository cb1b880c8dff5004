"""Is the invoice at Stripe the one we meant? Compared before it may be finalized."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LineImage:
    """One line as it stands on either side. ``line_id`` is *our* id of it (from the
    metadata), None for a line at Stripe that carries none. ``amount`` in minor units."""

    line_id: str | None
    amount: int


@dataclass(frozen=True, slots=True)
class InvoiceImage:
    """As much of an invoice as both sides must agree on."""

    total: int
    currency: str
    lines: tuple[LineImage, ...]
    digest: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """``field``: ``total``, ``currency``, ``digest``, or ``line <id>``. A value is None where
    that side has nothing; a line that stands there more than once shows all its amounts."""

    field: str
    ours: str | None
    theirs: str | None


def invoice_digest(total: int, *, currency: str, lines: Iterable[LineImage]) -> str:
    """A fingerprint of what is charged; the order of the lines does not matter."""
    rows = sorted([line.line_id or "", line.amount] for line in lines)
    text = json.dumps([total, currency, rows], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def compare_invoice(ours: InvoiceImage, *, theirs: InvoiceImage) -> list[Difference]:
    """Everything in which Stripe's invoice differs from ours; empty when it may be finalized.

    Lines are matched by our id: missing, foreign, doubled lines and wrong amounts are all
    differences, even where the total happens to be right.
    """
    pairs: list[tuple[str, str | None, str | None]] = [
        ("total", str(ours.total), str(theirs.total)),
        ("currency", ours.currency, theirs.currency),
        ("digest", ours.digest, theirs.digest),
    ]
    our_lines, their_lines = _amounts(ours.lines), _amounts(theirs.lines)
    pairs += [
        (f"line {line_id}", our_lines.get(line_id), their_lines.get(line_id))
        for line_id in sorted(our_lines.keys() | their_lines.keys())
    ]
    return [Difference(field, mine, other) for field, mine, other in pairs if mine != other]


def missing_lines(ours: InvoiceImage, *, theirs: InvoiceImage) -> tuple[str, ...]:
    """Ids of our lines that Stripe's draft lacks: what to add when adding was interrupted."""
    present = {line.line_id for line in theirs.lines}
    return tuple(
        line.line_id
        for line in ours.lines
        if line.line_id is not None and line.line_id not in present
    )


def _amounts(lines: Iterable[LineImage]) -> dict[str, str]:
    by_id: dict[str, Counter[int]] = {}
    for line in lines:
        by_id.setdefault(line.line_id or "(without id)", Counter())[line.amount] += 1
    return {
        line_id: ", ".join(str(amount) for amount in sorted(amounts.elements()))
        for line_id, amounts in by_id.items()
    }
