"""Migrations over HTTP."""

from __future__ import annotations

import pytest

from billing.domain.plan_changes import ChangeWhen
from billing.models import PlanMigration
from billing.operations import catalogue, migrating
from billing.operations.plan_shapes import VersionTerms
from tests.billing.api.conftest import Caller
from tests.factories.billing import ACTOR, NOW, a_plan, a_subscription

pytestmark = pytest.mark.django_db


def test_a_migration_is_previewed_ordered_watched_and_reverted(operator: Caller) -> None:
    old = a_plan(key="pro", fee=2_000)
    subscription = a_subscription(old)
    new = catalogue.new_version(
        old.plan_id, terms=VersionTerms(fee=3_000), activate=True, actor=ACTOR, now=NOW
    )
    body = {"source": old.public_id, "target": new.public_id, "when": "period_end"}

    preview = operator.made("/plan-migrations/preview", body)
    assert (preview["subscriptions"], preview["has_more"]) == (1, False)
    row = preview["data"][0]
    assert (row["customer"], row["total_before"], row["total_after"], row["refused"]) == (
        subscription.customer.public_id,
        2_000,
        2_000,
        None,
    )
    assert (row["next_fee_before"], row["next_fee_after"]) == (2_000, 3_000)
    assert not PlanMigration.objects.exists()

    made = operator.made("/plan-migrations", body | {"reason": "New prices"})
    assert (made["status"], made["waiting"], made["moves"]) == ("running", 1, {"pending": 1})
    migrating.advance_migrations(now=NOW, limit=10)
    path = f"/plan-migrations/{made['id']}"
    assert operator.seen(path)["moves"] == {"scheduled": 1}
    (move,) = operator.seen(f"{path}/moves")["data"]
    assert (move["subscription"], move["outcome"]) == (subscription.public_id, "scheduled")
    assert operator.seen("/plan-migrations")["data"][0]["reason"] == "New prices"

    assert operator.made(f"{path}/revert")["status"] == "reverting"
    migrating.advance_migrations(now=NOW, limit=10)
    assert operator.seen(path)["status"] == "reverted"


def test_what_makes_no_sense_is_refused(operator: Caller) -> None:
    old = a_plan(key="pro")
    same = {"source": old.public_id, "target": old.public_id}
    for path in ("/plan-migrations", "/plan-migrations/preview"):
        answer = operator.post(path, same)
        assert (answer.status_code, answer.json()["param"]) == (422, "target")
    answer = operator.post("/plan-migrations", same | {"customers": ["nobody"]})
    assert (answer.status_code, answer.json()["param"]) == (422, "customers[0]")
    assert operator.get("/plan-migrations/mig_0000000000000").status_code == 404
    assert not PlanMigration.objects.exists()


def test_some_customers_only(operator: Caller) -> None:
    old, new = a_plan(key="pro"), a_plan(key="max")
    chosen, _ = a_subscription(old), a_subscription(old)
    body = {
        "source": old.public_id,
        "target": new.public_id,
        "when": ChangeWhen.NOW.value,
        "customers": [chosen.customer.public_id],
    }
    assert operator.made("/plan-migrations", body)["waiting"] == 1
