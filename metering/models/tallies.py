"""What workers count for /metrics: Prometheus scrapes web processes, and a worker has no port."""

from __future__ import annotations

from django.db import models


class Tally(models.Model):
    """How often something happened, ever: one row a name."""

    name = models.CharField(max_length=100, primary_key=True)
    count = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name}: {self.count}"
