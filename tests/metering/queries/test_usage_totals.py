"""usage_totals: several meters at once come to what each comes to by itself."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from metering.operations.rolling_up import roll_up
from metering.queries.usage import UsageOf, usage_total, usage_totals
from tests.factories.accounts import a_customer
from tests.factories.billing import START
from tests.factories.metering import make_customer, make_meter
from tests.factories.usage import count_on

pytestmark = pytest.mark.django_db


def test_it_is_what_each_meter_comes_to_by_itself() -> None:
    customer, other = make_customer(), make_customer()
    meters = [make_meter(aggregation=kind) for kind in ("sum", "count", "max", "latest", "unique")]
    idle = make_meter()
    for number in range(12):
        at = START + timedelta(hours=5 * number, minutes=7 * number)
        for meter in meters:
            value = f"member-{number % 3}" if meter.aggregation == "unique" else number + 1
            count_on(customer, meter, value, at=at)
        count_on(other, meters[0], 1_000, at=at)
        if number == 6:
            roll_up(limit=20)
    ids = [each.id for each in (*meters, idle)]
    for start_at, end_at in (
        (START, START + timedelta(days=3)),
        (START + timedelta(hours=9, minutes=13), START + timedelta(hours=40, minutes=1)),
        (START + timedelta(minutes=1), START + timedelta(minutes=50)),
    ):
        alone = {
            UsageOf(each.id, meter_id, start_at, end_at): usage_total(
                each.id, meter_id=meter_id, start_at=start_at, end_at=end_at
            )
            for each in (customer, other)
            for meter_id in ids
        }
        assert usage_totals(alone) == alone
        assert alone[UsageOf(customer.id, idle.id, start_at, end_at)] == 0


def test_meters_that_add_up_are_read_by_one_statement() -> None:
    customer, meters = a_customer(), [make_meter() for _ in range(5)]
    ids = [each.id for each in meters]
    end_at = START + timedelta(days=1)
    many = [UsageOf(customer.id, each, START, end_at) for each in ids]
    with CaptureQueriesContext(connection) as asked:
        usage_totals([*many, UsageOf(a_customer().id, ids[0], START, end_at)])
    assert len([each for each in asked if "metering" in each["sql"]]) == 2
    inverted = UsageOf(customer.id, ids[0], end_at, START)
    assert usage_totals([inverted]) == {inverted: 0}
