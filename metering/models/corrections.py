"""What was put right afterwards: corrections of events, backfills, and what events count as now.

An event is never changed. A correction stands beside it and says what the event counts as from
then on; the latest one is in force.
"""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from accounts.models import Customer, Entity


class Correction(models.Model):
    """What an event counts as instead, who said so and why; never changed but by its successor.

    `usage`, `properties` and `paid_by` are shaped as on the event and take their place;
    `occurred_at` and `received_month` are the event's, which no correction moves. The month tells
    apart events with one id, which there are where an id came again after repeats of it are known.
    """

    class Kind(models.TextChoices):
        AMEND = "amend", "Amended"
        VOID = "void", "Voided"
        RESTORE = "restore", "Restored when a backfill was undone"
        REPAY = "repay", "Paid by other grants since another event was corrected"

    pk = models.CompositePrimaryKey("customer_id", "event_id", "number")
    customer = models.ForeignKey(
        Customer, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False
    )
    event_id = models.UUIDField()
    received_month = models.DateField()
    number = models.PositiveSmallIntegerField()  # 1, 2, 3 … of the id
    kind = models.CharField(max_length=7, choices=Kind.choices)
    occurred_at = models.DateTimeField()
    usage = models.JSONField()
    properties = models.JSONField(null=True)
    paid_by = models.JSONField(null=True)
    reason = models.CharField(max_length=500)
    actor = models.CharField(max_length=60)
    at = models.DateTimeField()
    superseded_at = models.DateTimeField(null=True)
    backfill_id = models.BigIntegerField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "event_id", "received_month"],
                condition=Q(superseded_at__isnull=True),
                name="correction_one_is_in_force",
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="correction_has_a_reason"),
            models.CheckConstraint(
                condition=~Q(kind="void") | Q(usage={}), name="correction_void_counts_nothing"
            ),
        ]
        indexes = [
            models.Index(fields=["customer", "at"], name="correction_customer_at"),
            models.Index(
                fields=["customer", "backfill_id"],
                condition=Q(backfill_id__isnull=False),
                name="correction_backfill",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event_id} {self.kind} {self.number}"


class EffectiveEvent(models.Model):
    """A view: every event with the usage, properties and payers that are in force.

    `correction` is the number of the correction in force, null where there is none.
    """

    pk = models.CompositePrimaryKey("customer_id", "id", "received_month")
    customer = models.ForeignKey(Customer, on_delete=models.DO_NOTHING, related_name="+")
    id = models.UUIDField()
    received_month = models.DateField()
    type = models.CharField(max_length=200)
    occurred_at = models.DateTimeField()
    received_at = models.DateTimeField()
    hour = models.DateTimeField()  # in which it occurred (UTC)
    usage = models.JSONField()
    properties = models.JSONField(null=True)
    paid_by = models.JSONField(null=True)
    correction = models.PositiveSmallIntegerField(null=True)

    class Meta:
        managed = False  # the migration has its SQL
        db_table = "metering_effectiveevent"

    def __str__(self) -> str:
        return str(self.id)


class Backfill(Entity):
    """Events of a range of time supplied afterwards, added to what is there or in its place.

    open -> closing -> closed -> reverting -> reverted; an open one that is dropped is reverted
    at once. `[start_at, end_at)` bounds `occurred_at`. While it is applied or undone the first
    `customers_done` of its customers are finished.
    """

    class Mode(models.TextChoices):
        ADD = "add", "Added to what is there"
        REPLACE = "replace", "In place of what is there"

    class Status(models.TextChoices):
        OPEN = "open", "Open"
        CLOSING = "closing", "Being applied"
        CLOSED = "closed", "Applied"
        REVERTING = "reverting", "Being undone"
        REVERTED = "reverted", "Undone or dropped"

    PREFIX: ClassVar[str] = "bf"
    mode = models.CharField(max_length=7, choices=Mode.choices)
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.OPEN)
    event_type = models.CharField(max_length=200)
    customers = ArrayField(models.BigIntegerField())
    start_at = models.DateTimeField()
    end_at = models.DateTimeField()
    reason = models.CharField(max_length=500)
    actor = models.CharField(max_length=60)
    created_at = models.DateTimeField()
    closing_at = models.DateTimeField(null=True)  # events received later are not replaced
    closed_at = models.DateTimeField(null=True)
    reverted_at = models.DateTimeField(null=True)
    changed_at = models.DateTimeField()  # of its status, or of what was applied last
    customers_done = models.PositiveIntegerField(default=0)
    dropped = models.PositiveIntegerField(default=0)  # events that never counted

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(end_at__gt=F("start_at")), name="backfill_range_has_a_length"
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="backfill_has_a_reason"),
        ]
        indexes = [
            models.Index(
                fields=["changed_at"],
                condition=Q(status__in=["closing", "reverting"]),
                name="backfill_at_work",
            )
        ]


class StagedEvent(models.Model):
    """An event supplied to a backfill; applied in the transaction that sets `applied_at`.

    `id` is the digest of source and external id, as of events.
    """

    class Outcome(models.TextChoices):
        ADDED = "added", "Counted as a new event"
        AMENDED = "amended", "Took the place of the event with its id"
        SAME = "same", "Was there already"
        REFUSED = "refused", "Its id belongs to an event that it may not replace"
        UNDONE = "undone", "Taken back when the backfill was undone"

    pk = models.CompositePrimaryKey("customer_id", "backfill_id", "id")
    customer = models.ForeignKey(
        Customer, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False
    )
    backfill_id = models.BigIntegerField()
    id = models.UUIDField()
    source = models.CharField(max_length=200)
    external_id = models.CharField(max_length=255)
    occurred_at = models.DateTimeField()
    usage = models.JSONField()
    properties = models.JSONField(null=True)
    fingerprint = models.BigIntegerField()
    applied_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=7, choices=Outcome.choices, blank=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["customer", "backfill_id", "occurred_at"],
                condition=Q(applied_at__isnull=True),
                name="stagedevent_waiting",
            ),
            models.Index(fields=["customer", "id"], name="stagedevent_customer_id"),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.external_id}"
