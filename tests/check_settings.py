"""Farebox's settings as `make check` and `make migrations` use them.

With the tool that keeps each app's migrations in one line: migrations/max_migration.txt names the
newest one, so that two branches that both add a migration meet in a merge conflict.
"""

from __future__ import annotations

from config import settings
from config.settings import *  # noqa: F403

INSTALLED_APPS = [*settings.INSTALLED_APPS, "django_linear_migrations"]
FIRST_PARTY_APPS = ["accounts", "metering", "billing"]
SILENCED_SYSTEM_CHECKS = [
    "security.W005",  # whether all subdomains are HTTPS is known to their owner alone
    "security.W008",  # whoever ends TLS in front of Farebox redirects to it
    "security.W021",  # as W005: a promise for the whole domain
]
