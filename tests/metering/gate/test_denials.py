"""What is kept of denials, of which there may be very many."""

from __future__ import annotations

import pytest

from metering.models import Denial
from tests.metering.gate.conftest import World

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_storm_of_denials_is_one_row(world: World) -> None:
    got = [world.check(mode="consume", id=f"{n}", quantity=2_000) for n in range(20)]

    assert {each.status for each in got} == {402}
    assert {each.body["retry"] for each in got} == {"never"}
    rows = list(Denial.objects.filter(customer_id=world.customer.id))
    assert sum(row.count for row in rows) == 20
    assert len(rows) <= 2  # two where the minute turned


@pytest.mark.parametrize("at_once", [True, False])
def test_denials_that_are_one_row_keep_the_first_answer_and_the_last(
    world: World, *, at_once: bool
) -> None:
    body = {"key": world.key, "meter": "api.calls"}
    bodies = [body | {"quantity": 2_000 + n} for n in range(4)]
    if at_once:
        told = world.gate.check({"checks": bodies}).body["results"]
    else:
        told = [world.gate.check(each).body for each in bodies]

    rows = list(Denial.objects.filter(customer_id=world.customer.id).order_by("first_at"))
    assert sum(row.count for row in rows) == 4
    assert {each["decision"] for each in told} == {row.problem["decision"] for row in rows}
    assert (rows[0].requested, rows[0].problem["requested"]) == (2_000, 2_000)
    assert (rows[-1].last_problem or rows[-1].problem)["requested"] == 2_003
    assert rows[0].problem["max_admissible"] == 1_000
