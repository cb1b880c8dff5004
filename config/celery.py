"""Celery: JSON messages, acknowledged late; the whole beat table in one place.

Losing a message loses nothing but time: tables are the queue, tasks only look at them.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings
from psycopg.conninfo import conninfo_to_dict, make_conninfo

# Every task first looks whether it may go by this clock.
app = Celery("farebox", task_cls="config.clocks:GuardedTask")


def _broker() -> tuple[str, dict[str, Any]]:
    url = settings.BROKER_URL or settings.DATABASE_URL.replace("postgresql://", "pgmq://", 1)
    if url.startswith("pgmq"):
        return "pgmq://", {
            # libpq's own form: what reads the URL for kombu knows no Unix sockets.
            "conn_string": _in_words(url.replace("pgmq://", "postgresql://", 1)),
            "init_extension": False,  # `manage.py prepare_broker` has made its tables
            "visibility_timeout": 60,
            "use_notify": True,
            "notify_throttle_interval_ms": 0,
            "wait_time_seconds": 0,
            "polling_interval": 0.1,
            "pool_timeout": 5,
        }
    if url.startswith(("redis", "valkey")):
        # Without these a killed worker's tasks come back only after many minutes.
        return url, {
            "visibility_timeout": 300,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
        }
    return url, {}


def _in_words(url: str) -> str:
    return make_conninfo(**conninfo_to_dict(url))  # type: ignore[arg-type]  # typed for one


broker_url, broker_transport_options = _broker()
TICK = float(settings.BILLING_TICK_S)
app.conf.update(
    broker_url=broker_url,
    broker_transport_options=broker_transport_options,
    broker_connection_retry_on_startup=True,
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_default_queue="farebox",
    worker_prefetch_multiplier=4,  # one look takes this many messages per process
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    timezone="UTC",
    enable_utc=True,
)
# task -> seconds between two looks; `expires` keeps a queue that nobody reads from growing.
BEAT: dict[str, float] = {
    "metering.roll_up": min(TICK, 5.0),
    "metering.roll_up_days": 600.0,
    "metering.expire_holds": min(TICK, 10.0),
    "metering.roll_over": min(TICK, 10.0),
    "metering.apply_backfills": min(TICK, 10.0),
    "metering.make_partitions": 3_600.0,
    "metering.check_invariants": 300.0,
    "metering.forget_denials": 86_400.0,
    "metering.forget_gateway_faults": 86_400.0,
    "metering.forget_holds": 60.0,
    "metering.forget_quarantined": 3_600.0,
    "billing.process_stripe_events": min(TICK, 5.0),
    "billing.advance_subscriptions": TICK,
    "billing.close_periods": TICK,
    "billing.bill_thresholds": TICK,
    "billing.apply_overrides": min(TICK, 10.0),
    "billing.retell_spend_limits": min(TICK, 10.0),
    "billing.retell_terms": min(TICK, 60.0),
    "billing.migrate_customers": min(TICK, 10.0),
    "billing.simulate_prices": min(TICK, 10.0),
    "billing.issue_invoices": TICK,
    "billing.expire_credits": 600.0,
    "billing.top_up_wallets": TICK,
    "billing.end_unconfirmed_top_ups": 600.0,
    "billing.push_invoices": TICK,
    "billing.charge_top_ups": TICK,
    "billing.retract_invoices": TICK,
    "billing.follow_holds": TICK,
    "billing.tell_customers": TICK,
    "billing.advance_dunning": TICK,
    "billing.poll_stripe_events": 900.0,
    "billing.poll_undelivered_events": 21_600.0,
    "billing.sweep_stripe_invoices": 3_600.0,
    "billing.reconcile": 86_400.0,
    "billing.check_invariants": 300.0,
    "billing.retire_events": 3_600.0,
    "accounts.forget_idempotent_requests": 600.0,
    "config.beat_heart": min(TICK, 15.0),
}
app.conf.beat_schedule = {
    name: {"task": name, "schedule": seconds, "options": {"expires": max(seconds, 5.0)}}
    for name, seconds in BEAT.items()
}
app.autodiscover_tasks()
