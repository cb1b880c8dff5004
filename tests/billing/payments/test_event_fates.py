"""An event is followed to the end: over its invoice's line to the line at Stripe."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.test import Client

from accounts.domain import ids
from accounts.models import Customer
from billing.payments.simulator import Simulator
from metering.operations.rolling_up import roll_up
from tests.billing.pages.conftest import signed_in
from tests.billing.payments.asserting import assert_one_right_invoice, push_until_settled
from tests.factories.accounts import a_member, an_operator_key, bearer
from tests.factories.billing import a_plan, a_subscription, bill, calls
from tests.factories.metering import make_meter, report
from tests.factories.payments import give_card

pytestmark = pytest.mark.django_db


def test_the_fate_of_an_event_ends_at_the_line_of_stripe(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    start, meter = now - timedelta(days=40), make_meter(key="chat.tokens")
    give_card(customer, now=now)
    subscription = a_subscription(
        a_plan(calls(meter)), customer=customer, card=False, start_at=start, now=start
    )
    event = report(customer, meter, 1_250, at=start + timedelta(days=1))
    address = ids.encode_owned("evt", customer_id=customer.id, key=event.id)
    api, page = f"/api/v1/events/{address}", f"/admin/usage-events/{address}/"
    operator = Client(headers=bearer(an_operator_key()[1]))
    staff = signed_in(a_member(None, is_staff=True))
    roll_up(limit=10)
    invoice = bill(subscription, now=now)
    line = invoice.lines.get(kind="usage")

    before = operator.get(api).json()["fate"]["meters"][0]["charged"]
    assert (before["line"], before["stripe_invoice"], before["stripe_line"]) == (
        line.public_id,
        None,
        None,
    )
    assert "at Stripe" not in staff.get(page).content.decode()

    push_until_settled(invoice, now=now)
    assert_one_right_invoice(simulator, invoice)
    (there,) = [
        each
        for each in simulator.all("line_item")
        if each["metadata"].get("farebox_line") == line.public_id
    ]
    charged = operator.get(api).json()["fate"]["meters"][0]["charged"]
    assert charged == {
        "invoice": invoice.public_id,
        "number": invoice.number,
        "status": "open",
        "line": line.public_id,
        "quantity": 250,  # past what is included
        "amount": 250,
        "currency": "usd",
        "stripe_invoice": there["invoice"],
        "stripe_line": there["id"],
    }
    told = staff.get(page).content.decode()
    for name in (line.public_id, there["id"], there["invoice"]):
        assert f"<code>{name}</code>" in told
