"""Is the process alive (/healthz), and can it do its work (/readyz)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from kombu.exceptions import KombuError

from accounts.models import Heartbeat
from config.celery import app
from config.clocks import WORKER_OFF, ahead_of_database, too_far_apart
from config.tasks import WORKER

log = structlog.get_logger(__name__)
HEARTBEAT_FRESH = timedelta(seconds=90)
BROKER_PATIENCE_S = 2


class NotReady(Exception):
    """Something that the work needs is not there; the sentence may be shown to anybody."""


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:  # noqa: ARG001
    """The process lives; nothing else is looked at."""
    return JsonResponse({"status": "alive"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:  # noqa: ARG001
    """Each thing the work needs, with `ok` or what is wrong; 503 if one is."""
    checks = {name: _verdict(name, check) for name, check in CHECKS.items()}
    ready = all(verdict == "ok" for verdict in checks.values())
    return JsonResponse(
        {"status": "ready" if ready else "not_ready", "checks": checks},
        status=200 if ready else 503,
    )


def _verdict(name: str, check: Callable[[], None]) -> str:
    try:
        check()
    except NotReady as error:
        return str(error)
    except (DatabaseError, KombuError, OSError) as error:
        log.warning("not_ready", check=name, exc_info=error)
        return "unreachable"
    except Exception as error:
        # Brokers raise errors of their own drivers.
        log.warning("not_ready", check=name, exc_info=error)
        return "failed"
    return "ok"


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _clock() -> None:
    if off := too_far_apart(ahead_of_database()):
        raise NotReady(off)


def _migrations() -> None:
    executor = MigrationExecutor(connection)
    waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if waiting:
        raise NotReady(f"{len(waiting)} not applied")


def _broker() -> None:
    with app.connection_for_write() as broker:
        broker.ensure_connection(max_retries=1, timeout=BROKER_PATIENCE_S, interval_start=1)


def _worker() -> None:
    refused = Heartbeat.objects.filter(name=WORKER_OFF).first()
    if refused is not None and datetime.now(UTC) - refused.at <= HEARTBEAT_FRESH:
        raise NotReady("the clock of one is too far from the database's: see its log")
    heart = Heartbeat.objects.filter(name=WORKER).first()
    if heart is None:
        raise NotReady("no heartbeat yet")
    age = datetime.now(UTC) - heart.at
    if age > HEARTBEAT_FRESH:
        raise NotReady(f"last heartbeat {int(age.total_seconds())} s ago")


CHECKS: dict[str, Callable[[], None]] = {
    "database": _database,
    "clock": _clock,
    "migrations": _migrations,
    "broker": _broker,
    "worker": _worker,
}
