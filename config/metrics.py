"""What Prometheus sees of the web process; the gate counts its own (metering/gate/metrics.py)."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterator
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from billing.models import Invoice, StripeEvent
from config import environment as env
from config.clocks import REFUSED
from config.problems import problem_response
from metering.models import Fault, Hold, Tally, UsageBatch
from metering.operations.expiring import SWEPT
from metering.queries.quarantine import filling, quarantined_events

log = structlog.get_logger(__name__)
_KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
REQUESTS = Counter("farebox_http_requests", "Answers of Django", ["method", "route", "status"])
SECONDS = Histogram("farebox_http_seconds", "From request to answer, in Django", ["route"])


class MetricsMiddleware:
    """Counts every answer by method, route (the pattern, never the path) and status."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request and count it."""
        started = time.perf_counter()
        response = self._get_response(request)
        match = request.resolver_match
        route = match.route if match else "none"
        method = str(request.method) if request.method in _KNOWN_METHODS else "other"
        REQUESTS.labels(method, route, str(response.status_code)).inc()
        SECONDS.labels(route).observe(time.perf_counter() - started)
        return response


class WaitingRows(Collector):
    """How much waits in the tables that are queues, counted when Prometheus asks."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One gauge with the kind of work as label; nothing while the database is away."""
        gauge = GaugeMetricFamily("farebox_waiting", "Rows that wait for a worker", labels=["kind"])
        try:
            for kind, rows in _waiting().items():
                gauge.add_metric([kind], rows.count())
        except DatabaseError as error:
            log.warning("metrics.database_unreachable", exc_info=error)
            return
        yield gauge

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Its name, without asking the database when it is registered."""
        yield GaugeMetricFamily("farebox_waiting", "Rows that wait for a worker", labels=["kind"])


def _waiting() -> dict[str, QuerySet[Any]]:
    return {
        "open_holds": Hold.objects.filter(state=Hold.State.OPEN),
        "usage_batches": UsageBatch.objects.all(),
        "quarantined_events": quarantined_events(),
        "stripe_events": StripeEvent.objects.filter(processed_at__isnull=True),
        "invoice_pushes": Invoice.objects.filter(push=Invoice.Push.PENDING),
        "quarantined_invoices": Invoice.objects.filter(push=Invoice.Push.QUARANTINED),
    }


class QuarantinedBytes(Collector):
    """How many bytes the events in quarantine have: they are bounded, as their number is."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One gauge; nothing while the database is away."""
        (gauge,) = self.describe()
        try:
            gauge.add_metric([], filling().bytes)
        except DatabaseError as error:
            log.warning("metrics.database_unreachable", exc_info=error)
            return
        yield gauge

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Its name, without asking the database when it is registered."""
        yield GaugeMetricFamily("farebox_quarantined_bytes", "Bytes of the events in quarantine")


class Faults(Collector):
    """How many invariants stand broken, by invariant."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One gauge; nothing while the database is away."""
        (gauge,) = self.describe()
        try:
            found = Fault.objects.values_list("invariant").annotate(faults=Count("id"))
            for invariant, faults in found.order_by("invariant"):
                gauge.add_metric([invariant], faults)
        except DatabaseError as error:
            log.warning("metrics.database_unreachable", exc_info=error)
            return
        yield gauge

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Its name, without asking the database when it is registered."""
        yield GaugeMetricFamily("farebox_faults", "Invariants broken now", labels=["invariant"])


class Tallied(Collector):
    """How often something happened in workers, which nobody scrapes: as a row of the database."""

    def __init__(self, row: str, metric: str, about: str) -> None:
        self._row = row
        self._metric = metric
        self._about = about

    def collect(self) -> Iterator[CounterMetricFamily]:
        """One counter, the same in every process; nothing while the database is away."""
        (counter,) = self.describe()
        try:
            row = Tally.objects.filter(name=self._row).first()
        except DatabaseError as error:
            log.warning("metrics.database_unreachable", exc_info=error)
            return
        counter.add_metric([], row.count if row else 0)
        yield counter

    def describe(self) -> Iterator[CounterMetricFamily]:
        """Its name, without asking the database when it is registered."""
        yield CounterMetricFamily(self._metric, self._about)


SWEPT_HOLDS = Tallied(SWEPT, "farebox_swept_holds", "Holds that the sweep has expired")
REFUSED_TASKS = Tallied(
    REFUSED, "farebox_clock_refused_tasks", "Tasks left undone: the worker's clock was too far off"
)


def _registry() -> CollectorRegistry:
    """What this process counted, or what all did where they share FAREBOX_METRICS_DIR."""
    registry = REGISTRY
    if env.METRICS_DIR.read():
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    for rows in (WaitingRows(), QuarantinedBytes(), Faults(), SWEPT_HOLDS, REFUSED_TASKS):
        registry.register(rows)
    return registry


_REGISTRY = _registry()


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """GET /metrics; needs FAREBOX_METRICS_KEY as a bearer where that is set."""
    wanted = settings.METRICS_KEY
    sent = request.headers.get("Authorization", "")
    if wanted and not hmac.compare_digest(sent.encode(), f"Bearer {wanted}".encode()):
        code = "key_unknown" if sent else "key_missing"
        return problem_response(code, detail="Send FAREBOX_METRICS_KEY as a bearer.")
    return HttpResponse(generate_latest(_REGISTRY), content_type=CONTENT_TYPE_LATEST)
