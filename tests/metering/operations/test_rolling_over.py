"""metering.operations.rolling_over: what is left goes on, once, and stays true to its window."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from accounts.models import Customer, CustomerVersion
from metering.domain.rollover import PRIORITY, rolled_over
from metering.models import Balance, Entitlement, Grant, Hold, Meter, Rollover
from metering.operations.checking import broken_invariants
from metering.operations.entitling import Right, StandingTerms, entitle
from metering.operations.expiring import expire_holds
from metering.operations.granting import void_grant
from metering.operations.rolling_over import roll_over
from metering.queries.balances import balances
from tests.factories.metering import make_customer, make_meter, open_hold, report
from tests.factories.threads import at_once

BEGIN = datetime(2026, 9, 1, tzinfo=UTC)
OCTOBER, NOVEMBER = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)


def monthly(meter: Meter, **changes: Any) -> Right:
    """A hundred a month, of which at most forty go on."""
    right = Right(
        kind="metered",
        meter_id=meter.id,
        anchor_at=BEGIN,
        starts_at=BEGIN,
        included=100,
        rollover=40,
    )
    return replace(right, **changes)


def give(customer: Customer, *rights: Right, now: datetime = BEGIN) -> None:
    entitle(customer.id, rights=rights, standing=StandingTerms("pro"), source="sub_1", now=now)


def version(customer: Customer) -> int:
    return CustomerVersion.objects.get(customer=customer).version


def remaining(customer: Customer, *, at: datetime) -> int | None:
    return balances(customer.id, now=at)[0].remaining


@pytest.fixture
def meter(db: None) -> Meter:
    return make_meter()


@pytest.fixture
def customer(meter: Meter) -> Customer:
    made = make_customer()
    give(made, monthly(meter))
    return made


class TestRolling:
    def test_a_window_that_went_on_does_not_go_on_again(
        self, customer: Customer, meter: Meter
    ) -> None:
        report(customer, meter, 75, at=OCTOBER - DAY)
        assert roll_over(now=OCTOBER, limit=10) == 1
        given = list(Grant.objects.values())
        # As a right that was made anew for the same windows.
        Entitlement.objects.update(rolls_at=OCTOBER, rollable=100)
        assert roll_over(now=OCTOBER, limit=10) == 1
        assert list(Grant.objects.values()) == given
        assert Rollover.objects.count() == 1

    def test_what_is_left_goes_on_for_one_window(self, customer: Customer, meter: Meter) -> None:
        report(customer, meter, 75, at=OCTOBER - DAY)
        assert roll_over(now=OCTOBER - SECOND, limit=10) == 0
        assert not Grant.objects.exists()
        before = version(customer)

        assert roll_over(now=OCTOBER, limit=10) == 1

        gone_on = Grant.objects.get()
        assert (gone_on.quantity, gone_on.priority) == (25, PRIORITY)
        assert (gone_on.effective_at, gone_on.expires_at) == (OCTOBER, NOVEMBER)
        assert gone_on.reason == "Rolled over from 2026-09-01"
        assert version(customer) == before + 1
        assert remaining(customer, at=OCTOBER) == 125
        assert remaining(customer, at=NOVEMBER) == 100

    def test_a_part_of_it_at_most(self, customer: Customer) -> None:
        roll_over(now=OCTOBER, limit=10)
        assert Grant.objects.get().quantity == 40

    def test_twice_is_once(self, customer: Customer) -> None:
        roll_over(now=OCTOBER, limit=10)
        state = list(Grant.objects.values()), list(Rollover.objects.values()), version(customer)
        assert roll_over(now=OCTOBER + DAY, limit=10) == 0
        assert (
            list(Grant.objects.values()),
            list(Rollover.objects.values()),
            version(customer),
        ) == state

    def test_nothing_left_nothing_given(self, customer: Customer, meter: Meter) -> None:
        report(customer, meter, 130, at=OCTOBER - DAY)
        assert roll_over(now=OCTOBER, limit=10) == 1
        assert not Grant.objects.exists()
        assert Rollover.objects.get().grant_id is None

    def test_included_goes_first_then_what_rolled_over(
        self, customer: Customer, meter: Meter
    ) -> None:
        roll_over(now=OCTOBER, limit=10)
        report(customer, meter, 120, at=OCTOBER + DAY)
        gone_on = Grant.objects.get()
        assert (gone_on.used, gone_on.quantity) == (20, 40)
        roll_over(now=NOVEMBER, limit=10)
        # October's hundred are used up; what came from September does not go on again.
        assert remaining(customer, at=NOVEMBER) == 100
        assert broken_invariants(now=NOVEMBER, customer_ids=[customer.id]) == []

    def test_windows_that_nobody_rolled_in_time_give_only_what_can_still_be_used(
        self, customer: Customer, meter: Meter
    ) -> None:
        report(customer, meter, 90, at=NOVEMBER - DAY)
        roll_over(now=NOVEMBER + DAY, limit=10)
        gone_on = Grant.objects.get()
        assert (gone_on.quantity, gone_on.effective_at) == (10, NOVEMBER)
        assert Entitlement.objects.get().rolls_at == DECEMBER

    def test_old_ones_are_forgotten(self, customer: Customer) -> None:
        roll_over(now=OCTOBER, limit=10)
        roll_over(now=NOVEMBER, limit=10)
        assert Rollover.objects.get().start_at == OCTOBER

    def test_a_right_that_has_ended_or_is_unlimited_leaves_nothing(self, meter: Meter) -> None:
        for changes in ({"ends_at": OCTOBER}, {"unlimited": True}):
            give(make_customer(), monthly(meter, **changes))
        assert roll_over(now=OCTOBER, limit=10) == 2
        assert not Grant.objects.exists()

    def test_rights_without_rollover_are_left_alone(self, meter: Meter) -> None:
        customer = make_customer()
        give(customer, monthly(meter, rollover=0))
        before = version(customer)
        assert roll_over(now=NOVEMBER, limit=10) == 0
        assert version(customer) == before

    def test_no_more_customers_than_asked_for(self, customer: Customer, meter: Meter) -> None:
        other = make_customer()
        give(other, monthly(meter))
        assert [roll_over(now=OCTOBER, limit=1) for _ in range(3)] == [1, 1, 0]
        assert Grant.objects.count() == 2


class TestWhatComesLate:
    def test_an_event_takes_back_what_nobody_used(self, customer: Customer, meter: Meter) -> None:
        roll_over(now=OCTOBER, limit=10)
        report(customer, meter, 80, at=OCTOBER - DAY, received_at=OCTOBER)
        assert roll_over(now=OCTOBER + DAY, limit=10) == 1
        assert Grant.objects.get().quantity == 20
        assert roll_over(now=OCTOBER + DAY, limit=10) == 0

    def test_but_never_what_was_used(self, customer: Customer, meter: Meter) -> None:
        roll_over(now=OCTOBER, limit=10)
        report(customer, meter, 130, at=OCTOBER + DAY)
        report(customer, meter, 100, at=OCTOBER - DAY, received_at=OCTOBER + DAY)
        roll_over(now=OCTOBER + 2 * DAY, limit=10)
        gone_on = Grant.objects.get()
        assert (gone_on.quantity, gone_on.used) == (30, 30)
        assert roll_over(now=OCTOBER + 2 * DAY, limit=10) == 0

    def test_a_hold_that_ends_gives_its_part_back(self, customer: Customer, meter: Meter) -> None:
        report(customer, meter, 60, at=OCTOBER - DAY)
        open_hold(customer, meter, 40, at=OCTOBER - SECOND)
        roll_over(now=OCTOBER, limit=10)
        assert not Grant.objects.exists()
        expire_holds(now=OCTOBER + DAY, limit=10)
        assert Hold.objects.get().state == "expired"
        assert roll_over(now=OCTOBER + DAY, limit=10) == 1
        assert Grant.objects.get().quantity == 40

    def test_a_voided_one_stays_void(self, customer: Customer, meter: Meter) -> None:
        roll_over(now=OCTOBER, limit=10)
        given_ = Grant.objects.get()
        void_grant(customer.id, grant_id=given_.id, actor="opk_1", now=OCTOBER)
        kept = Grant.objects.get().quantity
        report(customer, meter, 90, at=OCTOBER - DAY, received_at=OCTOBER)
        other = make_meter()
        give(customer, monthly(meter), monthly(other), now=OCTOBER)
        assert roll_over(now=OCTOBER + DAY, limit=10) == 0
        assert Grant.objects.get().quantity == kept

    def test_beside_one_that_is_put_right_a_voided_one_stays_as_it_is(self, meter: Meter) -> None:
        customer, other = make_customer(), make_meter()
        give(customer, monthly(meter), monthly(other))
        roll_over(now=OCTOBER, limit=10)
        voided = Grant.objects.get(meter=meter)
        void_grant(customer.id, grant_id=voided.id, actor="opk_1", now=OCTOBER)
        for each in (meter, other):
            report(customer, each, 90, at=OCTOBER - DAY, received_at=OCTOBER)
        kept = Grant.objects.get(meter=meter).quantity
        assert roll_over(now=OCTOBER + DAY, limit=10) == 1
        assert Grant.objects.get(meter=meter).quantity == kept
        assert Grant.objects.get(meter=other).quantity == 10


class TestChangesOfPlan:
    def test_a_larger_plan_in_the_middle_leaves_no_more(
        self, customer: Customer, meter: Meter
    ) -> None:
        report(customer, meter, 80, at=BEGIN + DAY)
        give(customer, monthly(meter, included=1_000, rollover=900), now=OCTOBER - SECOND)
        roll_over(now=OCTOBER, limit=10)
        assert Grant.objects.get().quantity == 20

    def test_a_smaller_one_leaves_what_it_includes(self, customer: Customer, meter: Meter) -> None:
        give(customer, monthly(meter, included=10), now=OCTOBER - SECOND)
        give(customer, monthly(meter), now=OCTOBER - SECOND)
        roll_over(now=OCTOBER, limit=10)
        assert Grant.objects.get().quantity == 10

    def test_a_change_rolls_what_was_over_by_the_terms_before(
        self, customer: Customer, meter: Meter
    ) -> None:
        give(customer, monthly(meter, included=500, rollover=500), now=OCTOBER + DAY)
        assert Grant.objects.get().quantity == 40
        assert roll_over(now=OCTOBER + DAY, limit=10) == 0
        assert remaining(customer, at=OCTOBER + DAY) == 540

    def test_a_meter_that_joins_in_the_middle_leaves_nothing(
        self, customer: Customer, meter: Meter
    ) -> None:
        other = make_meter()
        give(customer, monthly(meter), monthly(other), now=BEGIN + DAY)
        roll_over(now=OCTOBER, limit=10)
        assert [each.meter_id for each in Grant.objects.all()] == [meter.id]
        roll_over(now=NOVEMBER, limit=10)
        assert Grant.objects.filter(meter=other, quantity=40).exists()

    def test_a_new_anchor_begins_a_new_window(self, customer: Customer, meter: Meter) -> None:
        anew = BEGIN + 9 * DAY
        give(customer, monthly(meter, anchor_at=anew, included=60), now=anew)
        assert roll_over(now=OCTOBER, limit=10) == 0
        roll_over(now=OCTOBER + 9 * DAY, limit=10)
        assert Grant.objects.get().quantity == 40

    def test_another_length_of_windows_leaves_nothing_of_the_one_under_way(
        self, customer: Customer, meter: Meter
    ) -> None:
        give(customer, monthly(meter, window="week"), now=BEGIN + DAY)
        roll_over(now=BEGIN + 7 * DAY, limit=10)
        assert not Grant.objects.exists()
        roll_over(now=BEGIN + 14 * DAY, limit=10)
        assert Grant.objects.get().quantity == 40

    def test_windows_of_an_hour_never_roll(self, meter: Meter) -> None:
        customer = make_customer()
        give(customer, monthly(meter, window="hour", rollover=0))
        assert Entitlement.objects.get(customer=customer).rolls_at is None


@pytest.mark.django_db(transaction=True)
def test_two_workers_roll_a_window_once() -> None:
    meter, customer = make_meter(), make_customer()
    give(customer, monthly(meter))
    assert sum(at_once([lambda: roll_over(now=OCTOBER, limit=10)] * 4)) in {1, 2, 3, 4}
    assert Grant.objects.get().quantity == 40


@pytest.mark.django_db(transaction=True)
def test_a_customer_somebody_writes_at_is_left_for_the_next_time() -> None:
    meter, customer = make_meter(), make_customer()
    give(customer, monthly(meter))
    roll_over(now=OCTOBER, limit=10)
    report(customer, meter, 90, at=OCTOBER - DAY, received_at=OCTOBER)
    report(customer, meter, 100, at=NOVEMBER - DAY)
    for moment in (OCTOBER, NOVEMBER):
        before = list(Grant.objects.values())
        with transaction.atomic():
            CustomerVersion.objects.select_for_update().get(customer=customer)
            assert at_once([lambda: roll_over(now=moment, limit=10)]) == [0]  # noqa: B023
        assert list(Grant.objects.values()) == before
        assert roll_over(now=moment, limit=10) > 0


class TestTheStatementKnowsWhatThePureFunctionSays(TestCase):
    """changed_rollovers.sql finds a customer exactly where `rolled_over` says otherwise."""

    @settings(max_examples=15)
    @given(
        included=st.integers(0, 60),
        most=st.integers(1, 60),
        first=st.integers(0, 70),
        taken=st.integers(0, 120),
        late=st.integers(0, 70),
        held=st.integers(0, 20),
    )
    def test_after_any_usage(
        self, included: int, most: int, first: int, taken: int, late: int, held: int
    ) -> None:
        customer, meter = make_customer(), make_meter()
        give(customer, monthly(meter, included=included, rollover=most))
        report(customer, meter, first, at=OCTOBER - DAY)
        if held:
            open_hold(customer, meter, held, at=OCTOBER - SECOND)
        roll_over(now=OCTOBER, limit=100)
        report(customer, meter, taken, at=OCTOBER + SECOND)
        report(customer, meter, late, at=OCTOBER - DAY, received_at=OCTOBER + SECOND)
        before = Grant.objects.filter(customer=customer).first()
        row = Balance.objects.get(customer=customer, start_at=BEGIN)
        expected = rolled_over(
            included=included,
            most=most,
            used=row.used + row.held,
            taken=before.used if before else 0,
        )
        changes = expected != (before.quantity if before else 0)

        assert (roll_over(now=OCTOBER + DAY, limit=100) == 1) == changes

        after = Grant.objects.filter(customer=customer).first()
        assert (after.quantity if after else 0) == expected
        assert broken_invariants(now=OCTOBER + DAY, customer_ids=[customer.id], since=BEGIN) == []
