"""Work that waits is brought forward, and only that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from billing.models import StripeEvent
from billing.operations import collecting, retrying
from tests.factories.billing import ACTOR, a_subscription, bill, fresh

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 2, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def test_push_that_waits_is_due_at_once() -> None:
    invoice = bill(a_subscription(), now=NOW)
    retrying.push_now(invoice.id, actor=ACTOR, now=LATER)
    assert fresh(invoice).next_push_at == LATER
    collecting.mark_pushed(invoice.id, stripe_invoice="in_1", now=LATER)
    retrying.push_now(invoice.id, actor=ACTOR, now=LATER)
    assert (fresh(invoice).push, fresh(invoice).next_push_at) == ("pushed", None)


def test_event_that_waits_is_due_at_once_and_an_applied_one_stays() -> None:
    event = StripeEvent.objects.create(
        id="evt_1",
        type="invoice.paid",
        payload={},
        created_at=NOW,
        received_at=NOW,
        next_attempt_at=LATER + timedelta(hours=9),
    )
    retrying.apply_event_now(event.id, actor=ACTOR, now=LATER)
    assert fresh(event).next_attempt_at == LATER
    StripeEvent.objects.filter(pk=event.pk).update(processed_at=LATER)
    retrying.apply_event_now(event.id, actor=ACTOR, now=NOW)
    assert fresh(event).next_attempt_at == LATER
