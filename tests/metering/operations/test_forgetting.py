"""metering.operations.forgetting: closed holds go when their ids do, once, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Event
from uuid import UUID

import pytest
from django.db import connection, transaction

from accounts.models import Customer, CustomerVersion
from accounts.operations.versions import bump
from metering.models import Balance, Hold, HoldReach, Meter
from metering.operations import forgetting
from metering.operations.checking import broken_invariants
from metering.operations.forgetting import forget_holds
from tests.factories.metering import make_customer, make_entitlement, make_meter, open_hold
from tests.factories.threads import at_once, someone_waits_for_me

KEPT_FROM = datetime(2026, 9, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 2, tzinfo=UTC)  # what closed in August is forgotten from here on
MOMENT = timedelta(microseconds=1)
pytestmark = pytest.mark.django_db


@pytest.fixture
def meter() -> Meter:
    """A meter that customers have a right to."""
    return make_meter()


def someone(meter: Meter) -> Customer:
    """A customer that may hold."""
    customer = make_customer()
    make_entitlement(customer, meter)
    return customer


def closed(customer: Customer, meter: Meter, at: datetime, state: str = "settled") -> Hold:
    """A hold that was closed then."""
    hold = open_hold(customer, meter, 1, at=NOW)
    Hold.objects.filter(pk=hold.pk).update(state=state, closed_at=at)
    Balance.objects.filter(customer_id=customer.id).update(held=0)
    return hold


def forget(*, now: datetime = NOW, limit: int = 100, pieces: int = 100) -> int:
    """One look of the task."""
    return forget_holds(now=now, limit=limit, pieces=pieces)


def left() -> set[UUID]:
    """The ids of the holds that are there."""
    return set(Hold.objects.values_list("id", flat=True))


def version(customer: Customer) -> int:
    """The customer's version."""
    return int(CustomerVersion.objects.get(customer=customer).version)


def test_what_was_closed_before_ids_are_remembered_goes(meter: Meter) -> None:
    customer = someone(meter)
    for state in ("settled", "released", "expired"):
        closed(customer, meter, KEPT_FROM - MOMENT, state)
    kept = {closed(customer, meter, KEPT_FROM, state).id for state in ("settled", "expired")}
    kept.add(open_hold(customer, meter, 30, at=KEPT_FROM - timedelta(days=90)).id)

    assert forget() == 3

    assert left() == kept
    assert Balance.objects.get(start_at__month=6).held == 30
    assert broken_invariants(now=NOW, customer_ids=[customer.id]) == []


def test_a_day_of_grace_for_clocks_that_differ(meter: Meter) -> None:
    hold = closed(someone(meter), meter, KEPT_FROM - MOMENT)
    assert forget(now=NOW - MOMENT) == 0
    assert left() == {hold.id}


def test_pieces_of_many_customers_are_walked_from_where_the_last_call_ended(meter: Meter) -> None:
    customers = [someone(meter) for _ in range(3)]
    for customer in customers:
        for _ in range(3):
            closed(customer, meter, KEPT_FROM - MOMENT)
        closed(customer, meter, KEPT_FROM)
    before = [version(customer) for customer in customers]

    assert [forget(limit=2, pieces=2) for _ in range(4)] == [3, 3, 3, 0]

    assert Hold.objects.count() == 3
    assert not Hold.objects.filter(closed_at__lt=KEPT_FROM).exists()
    assert HoldReach.objects.get().done
    # Raised by each piece that took something away, and by nothing else.
    raised = [version(customer) - was for customer, was in zip(customers, before, strict=True)]
    assert raised == [2, 2, 2]


def test_a_walk_that_is_done_reads_nothing_until_the_next_month(meter: Meter) -> None:
    closed(someone(meter), meter, KEPT_FROM)
    assert forget() == 0
    with CountedReads() as reads:
        assert forget() == 0
    assert reads.of_holds == 0
    assert forget(now=NOW + timedelta(days=30)) == 1
    assert left() == set()


def test_a_walk_under_way_is_finished_before_another_month_begins_one(meter: Meter) -> None:
    first, last = someone(meter), someone(meter)
    early = closed(first, meter, KEPT_FROM)
    closed(last, meter, KEPT_FROM - MOMENT)
    assert forget(limit=1, pieces=1) == 0
    # The next month's call goes on with what this one's had begun, and takes `early` afterwards.
    assert forget(now=NOW + timedelta(days=30), limit=1, pieces=1) == 1
    assert left() == {early.id}
    assert forget(now=NOW + timedelta(days=30), limit=1) == 1


def test_a_piece_whose_end_was_not_noted_is_looked_at_again(
    meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a worker is killed in between."""
    customer = someone(meter)
    for _ in range(3):
        closed(customer, meter, KEPT_FROM - MOMENT)
    with monkeypatch.context() as patch:
        patch.setattr(forgetting, "_note", lambda *_, **__: False)
        assert forget(limit=2) == 2
    assert forget(limit=2) == 1
    assert left() == set()


def test_a_worker_that_was_overtaken_stops(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        closed(someone(meter), meter, KEPT_FROM - MOMENT)

    def overtaken(customer_id: int) -> int:
        HoldReach.objects.update(after_customer=customer_id, after_hold=UUID(int=2**128 - 1))
        return bump(customer_id)

    with monkeypatch.context() as patch:
        patch.setattr(forgetting, "bump", overtaken)
        assert forget(limit=1) == 1
    assert Hold.objects.count() == 1
    assert forget() == 1


@pytest.mark.django_db(transaction=True)
def test_many_workers_at_once_delete_each_hold_once(meter: Meter) -> None:
    for _ in range(6):
        customer = someone(meter)
        for _ in range(4):
            closed(customer, meter, KEPT_FROM - MOMENT)
        closed(customer, meter, KEPT_FROM)
    gone = sum(at_once([lambda: forget(limit=3)] * 4))
    gone += forget(limit=3)
    assert gone == 24
    assert Hold.objects.count() == 6
    assert HoldReach.objects.get().done


@pytest.mark.django_db(transaction=True)
def test_a_hold_that_is_settled_late_at_that_moment_stays(meter: Meter) -> None:
    customer = someone(meter)
    hold = closed(customer, meter, KEPT_FROM - MOMENT, "expired")
    begun = Event()

    def settle_late() -> int:
        with transaction.atomic():
            bump(customer.id)
            Hold.objects.filter(pk=hold.pk).update(state="settled", closed_at=NOW)
            begun.set()
            for _ in range(1_000_000):
                if someone_waits_for_me():
                    return 0
            raise AssertionError("nobody came to delete it")

    def forget_meanwhile() -> int:
        assert begun.wait(timeout=30)
        return forget()

    assert at_once([settle_late, forget_meanwhile]) == [0, 0]

    assert left() == {hold.id}
    assert Hold.objects.get().state == "settled"


class CountedReads:
    """How many statements name the holds."""

    def __enter__(self) -> CountedReads:
        self.of_holds = 0
        self._wrapper = connection.execute_wrapper(self._count)
        self._wrapper.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._wrapper.__exit__(None, None, None)

    def _count(self, execute: object, sql: str, *rest: object) -> object:
        self.of_holds += 'metering_hold"' in sql
        return execute(sql, *rest)  # type: ignore[operator]
