"""How long a customer waits: payment -> webhook -> entitlement -> the next check is 200.

Everything that `make run` starts, with the real processes: web and gate, broker, worker, beat,
PostgreSQL, and the Stripe simulator, which tells of what happened by signed webhooks. One customer
after another, on a machine that does nothing else. Beat looks every `_TICK_S`, so that a payment
that waited for it would be seen.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from billing.payments.simulator import enter_card
from config.quickstart import ports
from config.quickstart.catalogue import CALLS, FREE_CALLS
from config.quickstart.demonstration.calling import Farebox, until
from config.quickstart.demonstration.story import CARD_THAT_IS_DECLINED, GOOD_CARD
from config.quickstart.house import House
from tests.benchmarks import measuring, writing
from tests.benchmarks.measuring import Effort
from tests.flows.browsing import Browser

TITLE = "Waiting"
FLOOR_MS: Final = 1_000.0
_TICK_S: Final = 20
_LOOK_EVERY_S: Final = 0.005
_PATIENCE_S: Final = 180.0


@dataclass(frozen=True, slots=True)
class Person:
    """A customer with a key."""

    id: str
    key: str
    email: str


@dataclass(frozen=True, slots=True)
class Town:
    """The running Farebox, and customers in it."""

    house: House
    farebox: Farebox

    def people(self, count: int, prepare: Callable[[Person], None]) -> list[Person]:
        """As many new customers, each prepared."""
        found = []
        for _ in range(count):
            name = secrets.token_hex(8)
            made = self.farebox.post("/customers", {"external_id": name, "name": name})
            key = self.farebox.post("/api-keys", {"customer": made["id"], "name": "waiting"})
            found.append(Person(made["id"], key["key"], f"{name}@example.com"))
            prepare(found[-1])
        return found

    def take_free_plan(self, person: Person) -> None:
        """With all that it includes used up."""
        self.farebox.post("/subscriptions", {"customer": person.id, "plan": "free"})
        used = self.farebox.check(
            key=person.key, meter=CALLS, mode="consume", quantity=FREE_CALLS, id="all"
        )
        assert used.status == 200
        assert not self.admitted(person)

    def owe(self, person: Person) -> None:
        """A month that is over, with a card that will be declined for it."""
        enter_card(self.checkout(person, plan=None), CARD_THAT_IS_DECLINED)
        until("the card is known", lambda: self._card(person), patience_s=_PATIENCE_S)
        begun = datetime.now(UTC) - timedelta(days=8)
        self.farebox.post(
            "/subscriptions",
            {"customer": person.id, "plan": "pro-weekly", "start_at": begun.isoformat()},
        )

    def sign_in(self, person: Person) -> Browser:
        """At the page of the dearer plan, with a card that is good and a plan that is used up."""
        enter_card(self.checkout(person, plan=None), GOOD_CARD)
        until("the card is known", lambda: self._card(person), patience_s=_PATIENCE_S)
        password = secrets.token_urlsafe(12)
        self.farebox.post(
            "/members", {"customer": person.id, "email": person.email, "password": password}
        )
        browser = Browser()
        browser.visit(f"{self.house.local_url}/portal/plans/pro")
        browser.submit("Sign in", username=person.email, password=password)
        return browser

    def checkout(self, person: Person, *, plan: str | None) -> str:
        """The address of a page to pay at."""
        asked = {"customer": person.id, "plan": plan}
        return str(self.farebox.post("/checkout-sessions", asked)["url"])

    def admitted(self, person: Person) -> bool:
        """Whether the next call may be made."""
        return self.farebox.check(key=person.key, meter=CALLS).status == 200

    def await_denial(self, person: Person) -> None:
        """Until its invoice has come and could not be paid."""
        until("it is denied", lambda: not self.admitted(person), patience_s=_PATIENCE_S)

    def _card(self, person: Person) -> object:
        return self.farebox.get(f"/customers/{person.id}/state")["payment_method"]


def measure(chosen: argparse.Namespace, effort: Effort) -> str:
    """Measure, and return the section's text."""
    load_before, count = os.getloadavg()[0], chosen.waiting_customers
    with _town() as town:
        found = {
            "upgrade at Stripe Checkout, plan used up until then": _upgrades(town, count),
            "a better card after a declined one: invoice paid, calls admitted": _mended(
                town, count
            ),
            "upgrade in the portal: the check after the answer": _in_the_portal(town, count),
        }
        told = writing.conditions(
            town.house.database_url,
            load_before=load_before,
            more={
                "Processes": f"as `make run` starts them: one of web and gate, a worker of two, "
                f"beat looking every {_TICK_S} s, the broker in PostgreSQL, the Stripe simulator",
                "Customers": f"{count} for each row, one after another",
            },
        )
    return _text(found, told=told)


def _upgrades(town: Town, count: int) -> list[float]:
    people = town.people(count, town.take_free_plan)
    pages = [town.checkout(person, plan="pro") for person in people]
    return [_waited(town, *each) for each in zip(people, pages, strict=True)]


def _mended(town: Town, count: int) -> list[float]:
    people = town.people(count, town.owe)
    for person in people:
        town.await_denial(person)
    pages = [town.checkout(person, plan=None) for person in people]
    return [_waited(town, *each) for each in zip(people, pages, strict=True)]


def _in_the_portal(town: Town, count: int) -> list[float]:
    waits = []
    for person in town.people(count, town.take_free_plan):
        browser = town.sign_in(person)
        assert not town.admitted(person)
        browser.submit("Change now")
        begun = time.perf_counter()
        admitted = town.admitted(person)
        waits.append((time.perf_counter() - begun) * 1_000)
        assert admitted, "the page was there before the plan was"
    return waits


def _waited(town: Town, person: Person, page: str) -> float:
    """Milliseconds from sending the payment to the first check that is admitted."""
    begun = time.perf_counter()
    enter_card(page, GOOD_CARD)
    while not town.admitted(person):
        if time.perf_counter() - begun > _PATIENCE_S:
            raise RuntimeError(f"{person.id} paid and is still denied")
        time.sleep(_LOOK_EVERY_S)  # between two looks: the figure is no finer
    return (time.perf_counter() - begun) * 1_000


@contextlib.contextmanager
def _town() -> Iterator[Town]:
    folder = Path(tempfile.mkdtemp(prefix="farebox-bench-waiting-"))
    folder.chmod(0o711)
    os.environ["FAREBOX_BILLING_TICK_S"] = str(_TICK_S)
    house = House(home=folder / "home", port=_two_free_ports(), say=measuring.say)
    try:
        with house:
            farebox = Farebox(
                house.local_url,
                operator_key=house.known["operator_key"],
                gateway_key=house.known["gateway_key"],
                stripe_url=house.stripe_url,
            )
            with contextlib.closing(farebox):
                yield Town(house, farebox)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _two_free_ports() -> int:
    while True:
        port = measuring.free_port()
        if ports.free(port + 1):
            return port


def _text(found: dict[str, list[float]], *, told: str) -> str:
    rows = []
    for title, waits in found.items():
        p99 = statistics.quantiles(waits, n=100, method="inclusive")[98]
        rows.append(
            [
                title,
                f"{statistics.median(waits):,.0f} ms",
                f"{p99:,.0f} ms",
                f"{max(waits):,.0f} ms",
                f"{FLOOR_MS:,.0f} ms",
                writing.judged(p99, floor=FLOOR_MS, aim=None, fewer=True),
            ]
        )
    table = writing.table(["A customer waits for", "p50", "p99", "longest", "floor", ""], rows)
    return (
        f"{table}\n\nFrom the moment the payment is sent to Stripe's page to the first check that "
        "is 200, with\neverything between: Stripe (the simulator), its webhook, the worker, the "
        f"plan, the gate.\nIn the portal it is one check, after the page has answered.\n\n{told}"
    )
