"""Events that were refused, kept until what they were refused for is mended."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q, Value

from accounts.domain import ids
from accounts.models import Customer
from metering.domain.refusals import Refusal, refusal_of


class QuarantinedEvent(models.Model):
    """An event as it was reported, and why it could not be counted the last time it was tried.

    Written by the gate (metering/sql/quarantine_events.sql), while less than
    FAREBOX_QUARANTINE_EVENTS wait and they have less than FAREBOX_QUARANTINE_BYTES. `digest` tells
    a repeat of what waits: it is null afterwards. `customer` is known where the event named one
    that there was; a key that named it is kept nowhere, and `subject` is empty then.

    What could not be translated has a `shape`: `properties` is what remains of the item
    (metering/domain/shapes/remains.py), `options` what the address said; its id and type are empty.

    One that was counted or discarded stays for its fate, without its properties: the last 20,000 of
    them (metering/operations/redriving.py). Where it is known whose a discarded one is `customer`
    says it; else `subject` is empty, and `detail` names nobody.
    """

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        COUNTED = "counted", "Counted"
        DUPLICATE = "duplicate", "Counted before"
        DISCARDED = "discarded", "Discarded"

    PREFIX: ClassVar[str] = "qua"
    id = models.BigAutoField(primary_key=True)
    digest = models.UUIDField(unique=True, null=True)
    # The database's defaults are for a gate of the version before, which names none of these.
    state = models.CharField(
        max_length=9, choices=State.choices, default=State.WAITING, db_default=State.WAITING
    )
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, null=True, related_name="+")
    subject = models.CharField(max_length=200, blank=True)
    source = models.CharField(max_length=200)
    external_id = models.CharField(max_length=255, blank=True)
    event_id = models.UUIDField(null=True)  # under which it is counted: of source and external id
    type = models.CharField(max_length=200, blank=True)
    occurred_at = models.DateTimeField(null=True)  # null: when it was received
    properties = models.JSONField()
    shape = models.CharField(max_length=20, blank=True, default="", db_default="")
    options = models.JSONField(default=dict, db_default=Value({}, models.JSONField()))
    size = models.IntegerField(default=0, db_default=0)  # bytes, about
    code = models.CharField(max_length=40)
    detail = models.CharField(max_length=500)
    gateway_id = models.BigIntegerField(null=True)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    closed_by = models.CharField(max_length=100, blank=True, default="", db_default="")
    reason = models.CharField(
        "Why discarded", max_length=500, blank=True, default="", db_default=""
    )
    times = models.PositiveIntegerField(default=1)  # how often it was refused

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state="waiting", digest__isnull=False, closed_at__isnull=True)
                | Q(state="discarded", digest__isnull=True, closed_at__isnull=False)
                | (
                    ~Q(state__in=["waiting", "discarded"])
                    & Q(
                        digest__isnull=True,
                        closed_at__isnull=False,
                        customer__isnull=False,
                        event_id__isnull=False,
                    )
                ),
                name="quarantined_event_waits_or_went_somewhere",
            )
        ]
        indexes = [
            models.Index(fields=["event_id"], name="quarantined_by_event"),
            # How much waits, for each request with a refused item: from the index alone.
            models.Index(
                fields=["code", "size"], condition=Q(state="waiting"), name="quarantined_waiting"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.external_id}: {self.code}"

    @property
    def public_id(self) -> str:
        """The id as the API shows it."""
        return ids.encode(self.PREFIX, self.id)

    @property
    def refusal(self) -> Refusal:
        """Where on its way it stopped, and what helps."""
        return refusal_of(self.code)
