"""What happened: usage events, the batches that wait to be rolled up, holds, denials.

The tables with the most rows. Each carries the customer in its primary key, so that they can be
distributed by it. `id` of an event and of a hold is a digest of (source, external id): the same
id always lands on the same row, whatever its time stamps.

They have no foreign key to the customer: every write joins the customer's version row, which has
one, so that a row without a customer cannot come to be, and no trigger runs once a call.
"""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from accounts.models import Customer
from metering.models.hours import HOUR


class UsageEvent(models.Model):
    """One immutable fact. Partitioned by `received_month`, made ahead by a task.

    A view of metering_usageevent, where it is packed (docs/decisions/0016-packed-events.md), and
    written like a table.

    `usage` is what it counted as: {"<meter id>": quantity}; `paid_by` which grants it burned
    ({"<meter id>": {"grants": {"<grant id>": n}, "overage": n}}, null where only what the plan
    includes paid); `answer` what a repeat of the same id is told, as metering.domain.told keeps it
    (null for events that were only reported).
    """

    PREFIX: ClassVar[str] = "evt"
    pk = models.CompositePrimaryKey("customer_id", "id", "received_month")
    customer = models.ForeignKey(Customer, on_delete=models.DO_NOTHING, related_name="+")
    id = models.UUIDField()
    received_month = models.DateField()
    source = models.CharField(max_length=200)
    external_id = models.CharField(max_length=255)
    type = models.CharField(max_length=200)
    occurred_at = models.DateTimeField()
    received_at = models.DateTimeField()
    hour = models.GeneratedField(  # in which it occurred (UTC): what the index by time has
        expression=HOUR, output_field=models.DateTimeField(), db_persist=True
    )
    usage = models.JSONField()
    properties = models.JSONField(null=True)
    paid_by = models.JSONField(null=True)
    fingerprint = models.BigIntegerField()
    answer = models.TextField(null=True)  # noqa: DJ001  # none was given
    gateway_id = models.BigIntegerField(null=True)
    api_key_id = models.BigIntegerField(null=True)
    from_hold = models.BooleanField(default=False)
    late = models.BooleanField(default=False)  # settled after its hold had expired
    over_hold = models.BooleanField(default=False)  # more was used than had been held

    class Meta:
        managed = False  # the migration has its SQL
        db_table = "metering_reportedevent"

    def __str__(self) -> str:
        return f"{self.source} {self.external_id}"


class EventOrigin(models.Model):
    """What events of a customer have in common: their type, and by which gateway and key they came.

    `id` is a digest of these (metering.domain.counting.event_origin): whoever writes an event knows
    it without asking, and writes the row with the event where it is not known to be there.
    """

    pk = models.CompositePrimaryKey("customer_id", "id")
    customer = models.ForeignKey(
        Customer, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    id = models.BigIntegerField()
    type = models.CharField(max_length=200)
    gateway_id = models.BigIntegerField(null=True)
    api_key_id = models.BigIntegerField(null=True)

    def __str__(self) -> str:
        return self.type


class UsageBatch(models.Model):
    """What one gate transaction counted, waiting for Celery; deleted in the roll-up's transaction.

    `deltas`: [[customer id, meter id, bucket start in Unix seconds, dimensions, quantity, events]];
    `customers` those of the deltas, so that who asks for one of them opens no other batch (null:
    not written down, look inside).
    """

    id = models.BigAutoField(primary_key=True)
    created_at = models.DateTimeField()
    customers = ArrayField(models.BigIntegerField(), null=True)
    deltas = models.JSONField()

    def __str__(self) -> str:
        return str(self.id)


class Hold(models.Model):
    """Quantity reserved for one call; open -> settled | released | expired.

    `items`: {"<meter id>": quantity}. `allocation`: what it reserved from where, as
    metering.domain.burndown writes it.
    """

    class State(models.TextChoices):
        OPEN = "open", "Open"
        SETTLED = "settled", "Settled"
        RELEASED = "released", "Released"
        EXPIRED = "expired", "Expired"

    PREFIX: ClassVar[str] = "hold"
    pk = models.CompositePrimaryKey("customer_id", "id")
    customer = models.ForeignKey(
        Customer, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    id = models.UUIDField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    source = models.CharField(max_length=200)
    external_id = models.CharField(max_length=255)
    items = models.JSONField()
    allocation = models.JSONField()
    properties = models.JSONField(null=True)
    opened_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    fingerprint = models.BigIntegerField()
    answer = models.TextField()  # to the check that opened it, as metering.domain.told keeps it
    # The body of the settle or release that closed it; null while it is open.
    closing = models.TextField(null=True)  # noqa: DJ001
    closing_fingerprint = models.BigIntegerField(null=True)
    gateway_id = models.BigIntegerField(null=True)
    api_key_id = models.BigIntegerField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state="open", closed_at__isnull=True)
                | (~Q(state="open") & Q(closed_at__isnull=False)),
                name="hold_is_open_or_has_a_closing_time",
            )
        ]
        indexes = [
            models.Index(
                fields=["customer", "expires_at"],
                condition=Q(state="open"),
                name="hold_open_by_expiry",
            )
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.external_id} {self.state}"


class Denial(models.Model):
    """Denials of one minute with the same customer, meter, code and key, as one row.

    `id` is a digest of those, and the decision's id that each of them was told. `problem` and
    `requested` are the first one's, `last_problem` the last one's where there were several.
    """

    PREFIX: ClassVar[str] = "dec"
    pk = models.CompositePrimaryKey("customer_id", "id")
    customer = models.ForeignKey(
        Customer, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    id = models.UUIDField()
    code = models.CharField(max_length=40)
    meter = models.CharField(max_length=100, blank=True)
    api_key_id = models.BigIntegerField(null=True)
    gateway_id = models.BigIntegerField(null=True)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    count = models.BigIntegerField(default=1)
    requested = models.BigIntegerField(default=0)
    problem = models.JSONField()
    last_problem = models.JSONField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["customer", "-last_at"], name="denial_customer_last_at")]

    def __str__(self) -> str:
        return f"{self.customer_id} {self.code} {self.first_at:%F %T}"
