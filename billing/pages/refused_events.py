"""The customer's events that were refused and kept: why, and what became of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.http import HttpRequest, HttpResponse

from accounts.domain import ids
from billing.pages import wording
from billing.pages.access import PortalView
from metering.api.quarantine import told_to_customer
from metering.models import QuarantinedEvent
from metering.queries.quarantine import refused_of

SHOWN = 50
STATES: Final = {
    QuarantinedEvent.State.WAITING: wording.Tag("Waiting", "warn"),
    QuarantinedEvent.State.COUNTED: wording.Tag("Tried again, counted", "good"),
    QuarantinedEvent.State.DUPLICATE: wording.Tag("Came again, counted", "good"),
    QuarantinedEvent.State.DISCARDED: wording.Tag("Discarded", "bad"),
}


@dataclass(frozen=True, slots=True)
class Refused:
    """A refused event in the list."""

    event: QuarantinedEvent
    why: str
    state: wording.Tag


class RefusedEvents(PortalView):
    """Those of the customer, the latest first."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show a page of them."""
        found = refused_of(self.customer)
        before = _number(request.GET.get("before", ""))
        if before is not None:
            found = found.filter(id__lt=before)
        rows = list(found[: SHOWN + 1])
        return self.show(
            "refused_events.html",
            rows=[
                Refused(each, told_to_customer(each), STATES[QuarantinedEvent.State(each.state)])
                for each in rows[:SHOWN]
            ],
            older=rows[SHOWN - 1].public_id if len(rows) > SHOWN else "",
            first=before is None,
        )


def _number(public: str) -> int | None:
    try:
        return ids.decode(QuarantinedEvent.PREFIX, public)
    except ids.IdMalformed:
        return None
