"""Price simulations: asked for, taken in pieces, each period once, and nothing else is moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from accounts.models import AuditEntry
from billing.models import (
    Invoice,
    InvoiceLine,
    PlanVersion,
    PriceSimulation,
    SimulatedRevenue,
    Subscription,
    SubscriptionPhase,
)
from billing.operations import catalogue, collecting, simulating
from billing.operations.plan_shapes import VersionTerms
from billing.operations.simulating import SimulationRefused, advance_simulations, start_simulation
from tests.billing.pages.conftest import signed_in
from tests.factories.accounts import Api, a_member, an_operator_key
from tests.factories.billing import ACTOR, NOW, START, a_plan, a_subscription, bill, calls, fresh
from tests.factories.metering import make_meter, report
from tests.factories.threads import at_once

ISSUED = datetime(2026, 11, 2, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


def two_months() -> tuple[PlanVersion, PlanVersion, list[Subscription]]:
    """Two customers with an invoice of October; the first used 500 calls past 1,000."""
    meter = make_meter()
    old = a_plan(calls(meter, included=1_000), fee=2_000)
    found = [a_subscription(old) for _ in range(2)]
    report(found[0].customer, meter, 1_500, at=START + timedelta(days=1))
    terms = VersionTerms(fee=1_000, entitlements=[calls(meter, included=0)])
    draft = catalogue.new_version(old.plan_id, terms=terms, actor=ACTOR, now=NOW)
    for each in found:
        bill(each, now=ISSUED)
    return old, draft, found


def ask(version: PlanVersion, **more: Any) -> PriceSimulation:
    given: dict[str, Any] = {"start_at": START, "end_at": NOVEMBER, "actor": ACTOR, "now": ISSUED}
    return start_simulation(version.id, **{**given, **more})


def books() -> list[object]:
    lines = InvoiceLine.objects.order_by("id").values_list("id", "amount")
    return [*Invoice.objects.order_by("id").values_list("id", "total", "status"), *lines]


def results(simulation: PriceSimulation) -> list[tuple[int, int, int, int]]:
    rows = simulation.revenues.order_by("customer_id")
    return list(rows.values_list("customer_id", "periods", "before", "after"))


@pytest.mark.django_db
def test_it_is_taken_in_pieces_and_nothing_else_is_moved() -> None:
    _old, draft, (first, second) = two_months()
    before = books()
    asked = ask(draft)
    assert (asked.status, asked.total, asked.done) == ("running", 2, 0)
    assert advance_simulations(now=ISSUED, limit=1) == 1
    assert (fresh(asked).status, fresh(asked).done) == ("running", 1)
    assert advance_simulations(now=ISSUED, limit=1) == 1
    assert advance_simulations(now=ISSUED, limit=1) == 0
    done = fresh(asked)
    assert (done.status, done.done, done.failed) == ("done", 2, 0)
    assert done.finished_at == ISSUED
    assert results(asked) == [
        (first.customer_id, 1, 2_500, 2_500), (second.customer_id, 1, 2_000, 1_000),
    ]  # fmt: skip
    assert books() == before
    assert advance_simulations(now=ISSUED, limit=10) == 0


@pytest.mark.django_db
def test_some_customers_or_those_of_a_version() -> None:
    old, draft, (_first, second) = two_months()
    asked = [
        ask(draft, customer_ids=[second.customer_id]),
        ask(draft, source_id=old.id),
        ask(draft, source_id=draft.id),
    ]
    assert [each.total for each in asked] == [1, 2, 0]
    advance_simulations(now=ISSUED, limit=10)
    assert [fresh(each).status for each in asked] == ["done"] * 3
    assert results(asked[0]) == [(second.customer_id, 1, 2_000, 1_000)]


@pytest.mark.django_db
def test_what_is_voided_meanwhile_is_left_out() -> None:
    _old, draft, (first, second) = two_months()
    asked = ask(draft)
    collecting.void(Invoice.objects.get(subscription=first).id, now=ISSUED)
    advance_simulations(now=ISSUED, limit=10)
    assert (fresh(asked).total, fresh(asked).done) == (1, 1)
    assert [row[0] for row in results(asked)] == [second.customer_id]


@pytest.mark.django_db
def test_a_period_that_cannot_be_rated_is_counted_and_holds_up_no_other() -> None:
    _old, draft, (first, second) = two_months()
    SubscriptionPhase.objects.filter(subscription=first).update(start_at=NOVEMBER)
    asked = ask(draft)
    PriceSimulation.objects.filter(pk=asked.pk).update(total=2)
    Invoice.objects.filter(subscription=first).update(basis={})
    SubscriptionPhase.objects.filter(subscription=first).update(start_at=START)
    advance_simulations(now=ISSUED, limit=10)
    assert (fresh(asked).done, fresh(asked).failed) == (2, 1)
    assert [row[0] for row in results(asked)] == [second.customer_id]


@pytest.mark.django_db
def test_a_worker_that_dies_before_it_commits_counts_nothing_twice() -> None:
    _old, draft, _ = two_months()
    asked = ask(draft)
    with transaction.atomic():
        advance_simulations(now=ISSUED, limit=10)
        transaction.set_rollback(True)
    assert (fresh(asked).done, SimulatedRevenue.objects.count()) == (0, 0)
    advance_simulations(now=ISSUED, limit=10)
    assert [row[1] for row in results(asked)] == [1, 1]


@pytest.mark.django_db(transaction=True)
def test_two_workers_count_each_period_once() -> None:
    _old, draft, _ = two_months()
    asked = ask(draft)
    at_once([lambda: advance_simulations(now=ISSUED, limit=10)] * 3)
    assert fresh(asked).done == 2
    assert [row[1] for row in results(asked)] == [1, 1]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"end_at": START}, "end_at"),
        ({"end_at": START + timedelta(days=1_200)}, "end_at"),
        ({"source_id": 9}, "source"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], param: str) -> None:
    version = a_plan()
    with pytest.raises(SimulationRefused) as refused:
        ask(version, **asked)
    assert refused.value.param == param
    assert not PriceSimulation.objects.exists()
    assert not AuditEntry.objects.filter(action="price_simulation.started").exists()


@pytest.mark.django_db
def test_too_much_at_once_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _old, draft, _ = two_months()
    monkeypatch.setattr(simulating, "PERIODS_MAX", 1)
    with pytest.raises(SimulationRefused, match="2 periods"):
        ask(draft)
    monkeypatch.setattr(simulating, "PERIODS_MAX", 2)
    monkeypatch.setattr(simulating, "RUNNING_MAX", 1)
    running = ask(draft)
    with pytest.raises(SimulationRefused, match="running"):
        ask(draft)
    simulating.stop_simulation(running.id, actor=ACTOR, now=ISSUED)
    simulating.stop_simulation(running.id, actor=ACTOR, now=ISSUED)
    assert AuditEntry.objects.filter(action="price_simulation.stopped").count() == 1
    assert advance_simulations(now=ISSUED, limit=10) == 0
    assert ask(draft).status == "running"
    with pytest.raises(simulating.SimulationUnknown):
        simulating.stop_simulation(1, actor=ACTOR, now=ISSUED)


@pytest.mark.django_db
def test_over_the_api_and_in_the_admin() -> None:
    _old, draft, (first, _second) = two_months()
    api = Api(an_operator_key("reports:read")[1])
    body = {
        "version": draft.public_id, "start_at": START.isoformat(), "end_at": NOVEMBER.isoformat(),
        "customers": [first.customer.public_id],
    }  # fmt: skip
    made = api.post("price-simulations", body)
    assert made.status_code == 201, made.content
    path = f"price-simulations/{made.json()['id']}"
    assert (made.json()["status"], made.json()["total"]) == ("running", 1)
    advance_simulations(now=datetime.now(UTC), limit=10)
    told = api.get(path).json()
    assert (told["status"], told["before"], told["after"]) == ("done", 2_500, 2_500)
    (row,) = api.get(f"{path}/customers").json()["data"]
    assert (row["customer"], row["periods"], row["difference"]) == (
        first.customer.public_id, 1, 0,
    )  # fmt: skip
    assert [each["id"] for each in api.get("price-simulations").json()["data"]] == [told["id"]]
    assert api.post(f"{path}/stop").json()["status"] == "done"
    refused = api.post("price-simulations", body | {"end_at": START.isoformat()})
    assert (refused.status_code, refused.json()["param"]) == (422, "end_at")
    assert api.get("price-simulations/sim_0000000000000").status_code == 404
    chief = signed_in(a_member(None, is_staff=True))
    chosen = {"action": "simulate", "_selected_action": [str(draft.pk)]}
    page = chief.post("/admin/billing/planversion/", chosen, follow=True).content.decode()
    assert "Done for 1" in page
    listed = chief.get("/admin/billing/pricesimulation/").content.decode()
    assert "1 of 1" in listed
    assert "$25.00" in listed
    assert "+0" in chief.get("/admin/billing/simulatedrevenue/").content.decode()


@pytest.mark.django_db(transaction=True)
def test_a_database_that_breaks_off_is_asked_again_and_counts_as_no_failure() -> None:
    _, draft, _ = two_months()
    simulation = ask(draft)

    def impatient() -> int:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '10ms'")
            return advance_simulations(now=ISSUED, limit=10)

    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE metering_rollup, metering_usagebatch")
        with pytest.raises(OperationalError):
            at_once([impatient])
    assert (fresh(simulation).done, fresh(simulation).failed) == (0, 0)
    assert advance_simulations(now=ISSUED, limit=10) == 2
    assert (fresh(simulation).done, fresh(simulation).failed) == (2, 0)
