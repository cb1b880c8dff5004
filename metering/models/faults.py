"""Invariants that were found broken."""

from __future__ import annotations

from django.db import models


class Fault(models.Model):
    """A broken invariant as the last check of its subject found it; gone when it is mended."""

    invariant = models.CharField(max_length=4)  # I1 … I10
    subject = models.CharField(max_length=100)  # public id of what it is about
    detail = models.CharField(max_length=500)
    found_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["invariant", "subject", "detail"], name="fault_is_kept_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.invariant} {self.subject}: {self.detail}"
