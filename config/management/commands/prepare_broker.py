"""`manage.py prepare_broker`: makes the broker's tables where PostgreSQL is the broker."""

from __future__ import annotations

from typing import Any

import psycopg
from django.core.management.base import BaseCommand, CommandError
from pgmq import get_embedded_install_sql

from config.celery import app

_LOCK = 7_402_111  # any number: two that prepare at once wait for each other


class Command(BaseCommand):
    """Makes the tables of the message queue, once; a further time it changes nothing."""

    help = "Make the broker's tables where PostgreSQL is the broker; other brokers need none."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Install what is missing, in one transaction."""
        address = app.conf.broker_transport_options.get("conn_string")
        if not address:
            self.stdout.write("This broker needs no preparation.")
            return
        try:
            with psycopg.connect(address) as connection:
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
                if connection.execute("SELECT to_regnamespace('pgmq')").fetchone() != (None,):
                    self.stdout.write("The broker's tables are there.")
                    return
                connection.execute(get_embedded_install_sql().encode())
        except psycopg.Error as error:
            raise CommandError(f"The broker's tables could not be made: {error}") from error
        self.stdout.write("The broker's tables were made.")
