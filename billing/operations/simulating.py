"""Price simulations over the API and in the admin: asked for, worked on in pieces, kept.

Nothing of what is simulated changes: only the simulation itself is written. A piece is one
transaction, so a worker may die anywhere and each period is counted once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from django.db import OperationalError, transaction
from django.db.models import F, QuerySet

from accounts.operations.auditing import audit
from billing.models import Invoice, PlanVersion, PriceSimulation, SimulatedRevenue
from billing.queries.catalogue import CurrencyUnfit, in_currency
from billing.queries.simulations import SimulatedPeriod, simulated, simulated_invoices

logger = logging.getLogger(__name__)
Status = PriceSimulation.Status
PERIODS_MAX: Final = 200_000
SPAN_MAX: Final = timedelta(days=3 * 366)
RUNNING_MAX: Final = 5


class SimulationRefused(Exception):
    """It cannot be simulated like this; `param` names the member at fault."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(detail)
        self.param = param


class SimulationUnknown(Exception):
    """No simulation has this id."""


def start_simulation(
    version_id: int,
    *,
    start_at: datetime,
    end_at: datetime,
    source_id: int | None = None,
    customer_ids: Sequence[int] | None = None,
    currency: str | None = None,
    actor: str,
    now: datetime,
) -> PriceSimulation:
    """Ask for the past periods in `[start_at, end_at)` to be rated under a version, a draft too.

    It is of one currency: `currency`, else the version's first. A worker does it.
    Raises SimulationRefused: for a version that is not there, or not in the currency, a span that
    is empty or too long, too many periods, and while too many others are running.
    """
    version = _version(version_id, param="version")
    try:
        version = in_currency(version, currency=currency or version.currency)
    except CurrencyUnfit as unfit:
        raise SimulationRefused("currency", str(unfit)) from unfit
    source = None if source_id is None else _version(source_id, param="source")
    if start_at >= end_at:
        raise SimulationRefused("end_at", "The end must be after the start.")
    if end_at - start_at > SPAN_MAX:
        raise SimulationRefused("end_at", f"At most {SPAN_MAX.days} days are simulated at once.")
    if PriceSimulation.objects.filter(status=Status.RUNNING).count() >= RUNNING_MAX:
        raise SimulationRefused(
            "version", f"{RUNNING_MAX} simulations are running: stop one, or wait for it."
        )
    asked = PriceSimulation(
        version=version,
        source=source,
        start_at=start_at,
        end_at=end_at,
        customer_ids=None if customer_ids is None else sorted(set(customer_ids)),
        actor=actor,
        created_at=now,
    )
    asked.total = _periods(asked).count()
    if asked.total > PERIODS_MAX:
        raise SimulationRefused(
            "end_at",
            f"These are {asked.total:,} periods, and at most {PERIODS_MAX:,} are simulated at "
            "once: choose a shorter span, or customers.",
        )
    with transaction.atomic():
        asked.save(force_insert=True)
        audit(
            actor=actor,
            action="price_simulation.started",
            subject=asked.public_id,
            changes={
                "version": version.public_id,
                "currency": version.currency,
                "periods": asked.total,
            },
            now=now,
        )
    return asked


def stop_simulation(simulation_id: int, *, actor: str, now: datetime) -> PriceSimulation:
    """Leave it at what it has come to; one that is over stays as it is.

    Raises SimulationUnknown.
    """
    with transaction.atomic():
        found = PriceSimulation.objects.select_for_update().filter(pk=simulation_id).first()
        if found is None:
            raise SimulationUnknown("There is no such simulation.")
        if found.status == Status.RUNNING:
            found.status, found.finished_at = Status.STOPPED, now
            found.save()
            audit(actor=actor, action="price_simulation.stopped", subject=found.public_id, now=now)
    return found


def advance_simulations(*, now: datetime, limit: int) -> int:
    """Rate up to `limit` periods of each running simulation; how many were rated."""
    running = PriceSimulation.objects.filter(status=Status.RUNNING).order_by("id")
    return sum(
        _advance(found, now=now, limit=limit) for found in running.values_list("id", flat=True)
    )


def _version(version_id: int, *, param: str) -> PlanVersion:
    found = PlanVersion.objects.select_related("plan").filter(pk=version_id, base=None).first()
    if found is None:
        raise SimulationRefused(param, "There is no such version of a plan.")
    return found


def _periods(simulation: PriceSimulation) -> QuerySet[Invoice]:
    """All of it, or what is left, in the order in which they are taken; none that is newer."""
    found = simulated_invoices(
        simulation.version,
        start_at=simulation.start_at,
        end_at=simulation.end_at,
        customer_ids=simulation.customer_ids,
        source=simulation.source,
    ).filter(created_at__lte=simulation.created_at)
    if simulation.last_invoice_id is not None:
        found = found.filter(pk__gt=simulation.last_invoice_id)
    return found.order_by("pk")


def _advance(simulation_id: int, *, now: datetime, limit: int) -> int:
    with transaction.atomic():
        free = PriceSimulation.objects.select_for_update(skip_locked=True, of=("self",))
        found = free.filter(pk=simulation_id, status=Status.RUNNING).first()
        if found is None:
            return 0
        taken = list(_periods(found).select_related("customer")[:limit])
        for invoice in taken:
            _take(found, invoice)
        found.done = min(found.done + len(taken), found.total)
        if len(taken) < limit:
            found.status, found.finished_at = Status.DONE, now
            found.total = found.done  # what was voided meanwhile is no period any more
        found.save()
    return len(taken)


def _take(simulation: PriceSimulation, invoice: Invoice) -> None:
    simulation.last_invoice = invoice
    try:
        with transaction.atomic():
            rated = simulated(simulation.version, invoice=invoice)
    except OperationalError:
        raise  # the next turn may succeed
    except Exception:
        # Whatever it is, it would come again, and the next ones wait behind it.
        logger.exception("simulating failed for %s", invoice.public_id)
        simulation.failed += 1
        return
    _add(simulation, rated)


def _add(simulation: PriceSimulation, rated: SimulatedPeriod) -> None:
    row, _ = SimulatedRevenue.objects.get_or_create(
        simulation=simulation, customer_id=rated.invoice.customer_id
    )
    SimulatedRevenue.objects.filter(pk=row.pk).update(
        periods=F("periods") + 1,
        before=F("before") + rated.before,
        after=F("after") + rated.after,
    )
