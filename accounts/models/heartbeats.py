"""Signs of life of what has no port to ask."""

from __future__ import annotations

from django.db import models


class Heartbeat(models.Model):
    """When the worker last did what the beat told it: one row per name."""

    name = models.CharField(max_length=100, primary_key=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} at {self.at:%Y-%m-%dT%H:%M:%SZ}"
