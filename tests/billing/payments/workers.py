"""Workers in processes of their own, on the database and the simulated Stripe of a test."""

from __future__ import annotations

import os
from collections.abc import Mapping

from django.db import connection


def worker_environment(stripe_url: str) -> Mapping[str, str]:
    """The environment in which a process finds both."""
    settings = connection.settings_dict
    host, port = settings["HOST"], settings["PORT"]
    options = " ".join(
        f"{name}={value}"
        for name, value in {
            "dbname": settings["NAME"],
            "user": settings["USER"],
            "password": settings["PASSWORD"],
            "host": host,
            "port": port,
        }.items()
        if value
    )
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "FAREBOX_DATABASE_URL": options,
        "FAREBOX_STRIPE_API_BASE": stripe_url,
    }
