"""A right that begins after the fact knows the readings and members of its windows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from metering.operations.entitling import Right, StandingTerms, entitle
from tests.factories.counted import books_of, happen
from tests.factories.metering import NOW, make_customer, make_meter

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
GOOD = StandingTerms(plan_key="pro", plan_name="Pro")


@pytest.mark.django_db
@pytest.mark.parametrize("window", ["month", "lifetime"])
@pytest.mark.parametrize(("aggregation", "figures"), [("latest", 7), ("unique", 2), ("max", 9)])
def test_what_came_before_the_right_counts_as_it_should(
    aggregation: str, figures: int, window: str
) -> None:
    customer, meter = make_customer(), make_meter(aggregation=aggregation)
    happen(customer, meter, at=NOW, tokens=7)
    right = Right(
        kind="metered",
        meter_id=meter.id,
        window=window,
        anchor_at=BEGIN,
        starts_at=BEGIN,
        included=1_000,
    )
    entitle(customer.id, rights=[right], standing=GOOD, source="sub_1", now=NOW)
    books_of(customer, meter)
    happen(customer, meter, at=NOW - timedelta(minutes=5), tokens=9)  # an older reading
    happen(customer, meter, at=NOW - timedelta(minutes=6), tokens=7)  # a member that was seen
    assert books_of(customer, meter) == {meter.key: figures}
