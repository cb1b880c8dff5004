"""Migration 0024: discarded events have room; back, they are dropped as the version before does."""

from __future__ import annotations

import pytest
from django.core.management import call_command

from metering.models import QuarantinedEvent
from metering.operations.redriving import discard
from tests.factories.metering import NOW
from tests.factories.quarantine import quarantined


@pytest.mark.django_db(transaction=True)
def test_back_and_forth_what_waits_stays_and_what_was_discarded_goes() -> None:
    waits = quarantined(1)
    gone = quarantined(2)
    assert discard(event_ids=[gone.id], actor="mem_1", now=NOW) == 1
    call_command("migrate", "metering", "0023", verbosity=0)
    call_command("migrate", "metering", verbosity=0)
    assert QuarantinedEvent.objects.get() == waits
