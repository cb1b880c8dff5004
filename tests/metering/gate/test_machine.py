"""Random calls against two gates and against a model: every answer is the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import hypothesis
import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from accounts.domain import ids
from accounts.operations.versions import bump
from metering.domain.meters import QUANTITY_MAX
from metering.models import Denial, Grant, Hold
from metering.operations.entitling import Right, StandingTerms, entitle
from metering.operations.expiring import expire_holds
from metering.operations.granting import grant, void_grant
from metering.operations.rolling_up import roll_up
from tests.metering.gate.books import broken
from tests.metering.gate.client import GateProcess, Got, make_api_key
from tests.metering.gate.conftest import World, make_customer, past
from tests.metering.gate.model import CALLS, TOKENS, CustomerModel, Given, HoldModel, Known, Plan
from tests.metering.gate.strategies import items, modes, names, plans, small

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.proof]
TYPES = {CALLS: "api.call", TOKENS: "llm.completion"}
THOROUGH = hypothesis.settings().max_examples >= 1_000


class Machine(RuleBasedStateMachine):
    """One customer; each call goes to one of two gates, so that each gate's copies grow old."""

    gates: ClassVar[Sequence[GateProcess]] = ()
    meter_ids: ClassVar[Mapping[str, int]] = {}
    numbers: ClassVar[Iterator[int]] = itertools.count(1)

    @initialize(calls=plans.filter(bool), tokens=plans.filter(bool))
    def begin(self, calls: Plan, tokens: Plan) -> None:
        """A customer on some plan, whose windows have just begun."""
        self.model = CustomerModel()
        self.customer = make_customer()
        self.key = make_api_key(self.customer)
        self.anchor_at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=5)
        self.turns = itertools.cycle(self.gates)
        self._plan({CALLS: calls, TOKENS: tokens}, deny=False)

    def teardown(self) -> None:
        """The books are in order after each example."""
        if hasattr(self, "customer"):
            assert broken(self.customer.id) == []
            denials = Denial.objects.filter(customer_id=self.customer.id)
            assert all(each.problem["code"] == each.code for each in denials)

    # --- what a gateway does -----------------------------------------------------------------

    @rule(mode=modes, id_=names, wanted=items)
    def check(self, mode: str, id_: str, wanted: dict[str, int]) -> None:
        """Ask for some quantities."""
        self._answered(next(self.turns).check(self._body(mode, id_, wanted)), mode, id_, wanted)

    @rule(asked=st.lists(st.tuples(modes, names, items), min_size=2, max_size=5))
    def batch(self, asked: list[tuple[str, str, dict[str, int]]]) -> None:
        """Several checks in one request: each is decided after those before it."""
        got = next(self.turns).check({"checks": [self._body(*each) for each in asked]})
        assert got.status == 200
        for told, each in zip(got.body["results"], asked, strict=True):
            status = told.pop("status")
            # Answers in a batch have no headers of their own: what is in one is a member there.
            marks = {"farebox-replayed": "true"} if told.pop("replayed", False) else {}
            self._answered(Got(status, told, marks), *each)

    def _answered(self, got: Got, mode: str, id_: str, wanted: dict[str, int]) -> None:
        """One check was answered as it must be; the model then knows what that changed."""
        model = self.model
        wish = (mode, tuple(wanted.items()))
        known = model.ids.get(id_) if mode != "peek" else None
        if known is not None:
            self._as_before(got, known, wish)
            return
        refusal = model.refuse(wanted)
        if refusal is not None:
            expected = {
                "code": refusal.code,
                "retry": refusal.retry,
                "max_admissible": refusal.max_admissible,
                "requested": wanted[refusal.meter],
                "meter": refusal.meter,
            }
            assert got.status == refusal.status, got.body
            assert {name: got.body[name] for name in expected} == expected
            blind = refusal.code == "not_entitled"
            self._balances(got, [] if blind else model.sums(wanted))
            return
        assert got.status == 200, got.body
        assert "farebox-replayed" not in got.headers
        if mode != "peek":
            charges = {
                meter: model.meters[meter].take(quantity, held=mode == "hold")
                for meter, quantity in wanted.items()
            }
            model.ids[id_] = Known(wish, got.body)
            if mode == "hold":
                model.holds.append(
                    HoldModel(got.body["hold"]["id"], id_, charges, frozenset(wanted))
                )
        self._balances(got, model.sums(wanted))

    @rule(id_=names, quantity=small, settling=st.booleans())
    def twins(self, id_: str, quantity: int, settling: bool) -> None:
        """The same call three times at the same moment, on one gate."""
        body = self._body("consume", id_, {CALLS: quantity})
        got = next(self.turns).together(*[("/api/v1/check", body)] * (3 if settling else 2))
        wish = ("consume", ((CALLS, quantity),))
        known = self.model.ids.get(id_)
        if known is not None:
            for each in got:
                self._as_before(each, known, wish)
            return
        refusal = self.model.refuse({CALLS: quantity})
        if refusal is not None:
            assert {(each.status, each.body["code"]) for each in got} == {
                (refusal.status, refusal.code)
            }
            return
        assert [each.status for each in got] == [200] * len(got)
        assert sum("farebox-replayed" not in each.headers for each in got) == 1
        assert all(each.body == got[0].body for each in got)
        self.model.meters[CALLS].take(quantity, held=False)
        self.model.ids[id_] = Known(wish, got[0].body)

    @precondition(lambda self: self.model.holds)
    @rule(
        action=st.sampled_from(["settle", "settle", "release", "extend", "read"]),
        which=st.integers(0, 9),
        amount=st.sampled_from(["less", "equal", "more", "none"]),
    )
    def close(self, action: str, which: int, amount: str) -> None:
        """Settle, release, extend or look at one of the holds."""
        hold = self.model.holds[which % len(self.model.holds)]
        wanted = dict(self._asked_of(hold))
        change = {"less": (1, 0), "equal": (2, 0), "more": (2, 7), "none": (0, 0)}
        halves, more = change[amount]
        actual = {meter: min(n * halves // 2 + more, QUANTITY_MAX) for meter, n in wanted.items()}
        path = f"/api/v1/holds/{hold.id}"
        gate = next(self.turns)
        if action == "read":
            got = gate.send("GET", path)
            assert (got.status, got.body["hold"]["state"]) == (200, hold.state)
            return
        body: dict[str, Any] | None = None
        if action == "settle":
            rows = [{"meter": meter, "quantity": n} for meter, n in actual.items()]
            body = {"items": rows} if len(rows) > 1 else {"quantity": rows[0]["quantity"]}
        elif action == "extend":
            body = {"ttl": 600}
        got = gate.send("POST", f"{path}/{action}", body)
        self._closed(got, hold, action, actual)

    def _closed(self, got: Got, hold: HoldModel, action: str, actual: dict[str, int]) -> None:
        wish = (action, tuple(actual.items())) if action == "settle" else (action,)
        if hold.state in ("settled", "released"):
            if wish == hold.wish:
                assert (got.status, got.body) == (200, hold.told)
                assert got.headers["farebox-replayed"] == "true"
                return
            other = "id_reused" if action == "settle" else "hold_settled"
            code = "hold_released" if hold.state == "released" else other
            assert (got.status, got.body["code"]) == (422 if code == "id_reused" else 409, code)
            return
        if action == "extend":
            late = hold.state == "expired"
            assert got.status == (409 if late else 200), got.body
            assert (got.body["code"] if late else got.body["hold"]["state"]) == (
                "hold_expired" if late else "open"
            )
            return
        assert got.status == 200, got.body
        asked, late = dict(self._asked_of(hold)), hold.state == "expired"
        self.model.free(hold)
        if action == "settle":
            for meter, n in actual.items():
                self.model.meters[meter].take(n, held=False)
            over = any(n > asked[meter] for meter, n in actual.items())
            assert (got.body["over_hold"], got.body["late"]) == (over, late)
        self._balances(got, self.model.sums(asked))
        hold.state = "settled" if action == "settle" else "released"
        assert got.body["hold"]["state"] == hold.state
        hold.wish, hold.told = wish, got.body
        hold.used = actual if action == "settle" else {}

    @rule(id_=names, meter=st.sampled_from([CALLS, TOKENS]), quantity=st.integers(0, 90))
    def report(self, id_: str, meter: str, quantity: int) -> None:
        """An event after the fact, past any limit."""
        got = self._post(id_, meter, {"quantity": quantity})
        known, wish = self.model.ids.get(id_), ("event", meter, quantity)
        if known is None:
            self.model.meters[meter].take(quantity, held=False)
            self.model.ids[id_] = Known(wish)
            assert got.body == {"accepted": 1, "duplicates": 0, "rejected": []}
        elif known.wish == wish:
            assert got.body["duplicates"] == 1
        else:
            assert got.body["rejected"][0]["code"] == "id_reused"

    @precondition(lambda self: self.model.holds)
    @rule(
        which=st.integers(0, 9), id_=names, meter=st.sampled_from([CALLS, TOKENS]), quantity=small
    )
    def report_of_hold(self, which: int, id_: str, meter: str, quantity: int) -> None:
        """An event that names a hold: the first one settles it, all are counted."""
        hold = self.model.holds[which % len(self.model.holds)]
        got = self._post(id_, meter, {"quantity": quantity, "hold": hold.id})
        report = id_, ("event", meter, quantity, hold.id), meter, quantity
        fate = self.model.fate(hold, *report)
        if fate == "accepted":
            assert got.body == {"accepted": 1, "duplicates": 0, "rejected": []}
            self.model.settle_by(hold, *report)
        elif fate == "duplicate":
            assert got.body["duplicates"] == 1
        else:
            assert got.body["rejected"][0]["code"] == fate

    # --- what others do ----------------------------------------------------------------------

    @precondition(lambda self: any(each.state == "open" for each in self.model.holds))
    @rule(which=st.integers(0, 9), swept=st.booleans())
    def lapse(self, which: int, swept: bool) -> None:
        """The time of an open hold is over; the sweep may come first, or a gate meets it."""
        holds = [each for each in self.model.holds if each.state == "open"]
        hold = holds[which % len(holds)]
        key = next(
            row for row in Hold.objects.filter(customer_id=self.customer.id)
            if _public(row) == hold.id
        )  # fmt: skip
        with transaction.atomic():
            bump(self.customer.id)
            Hold.objects.filter(customer_id=self.customer.id, id=key.id).update(expires_at=past(1))
        if swept:
            expire_holds(now=datetime.now(UTC), limit=100)
        self.model.free(hold)
        hold.state = "expired"

    @rule(
        meter=st.sampled_from([CALLS, TOKENS]),
        quantity=st.integers(1, 60),
        priority=st.sampled_from([1, 10, 10, 20]),
        days=st.sampled_from([None, 2, 9]),
    )
    def give(self, meter: str, quantity: int, priority: int, days: int | None) -> None:
        """A grant, perhaps with an end."""
        now = datetime.now(UTC)
        made = grant(
            self.customer.id,
            meter_id=self.meter_ids[meter],
            quantity=quantity,
            priority=priority,
            # All that end do so on the day's first second, so that age decides between equals.
            expires_at=None if days is None else self.anchor_at + timedelta(days=days),
            actor="test",
            now=now,
        )
        order = (priority, float("inf") if days is None else days, next(self.numbers))
        self.model.meters[meter].grants[made.id] = Given(quantity, order)

    @precondition(lambda self: any(each.grants for each in self.model.meters.values()))
    @rule(which=st.integers(0, 9), voided=st.booleans())
    def end_grant(self, which: int, voided: bool) -> None:
        """A grant's time is over, or it is taken back; what holds have of it stays theirs."""
        found = [(m, key) for m in self.model.meters.values() for key in m.grants]
        meter, key = found[which % len(found)]
        if voided:
            void_grant(self.customer.id, grant_id=key, actor="test", now=datetime.now(UTC))
        else:
            with transaction.atomic():
                bump(self.customer.id)
                Grant.objects.filter(customer_id=self.customer.id, id=key).update(
                    effective_at=past(20), expires_at=past(1)
                )
        meter.grants[key].gone = True

    @rule(calls=plans, tokens=plans, deny=st.sampled_from([False, False, False, True]))
    def change_plan(self, calls: Plan | None, tokens: Plan | None, deny: bool) -> None:
        """Billing says something else; nothing that was used is forgotten."""
        self._plan({CALLS: calls, TOKENS: tokens}, deny=deny)

    @rule()
    def roll(self) -> None:
        """What waits is rolled up."""
        roll_up(limit=1_000)

    # --- the small parts ---------------------------------------------------------------------

    def _plan(self, terms: Mapping[str, Plan | None], *, deny: bool) -> None:
        rights = []
        for meter, plan in terms.items():
            self.model.meters[meter].plan = plan
            if plan is None:
                continue
            base = Right(
                kind="metered",
                meter_id=self.meter_ids[meter],
                anchor_at=self.anchor_at,
                starts_at=self.anchor_at,
                included=plan.included,
                unlimited=plan.unlimited,
                over="bill" if plan.billed else "deny",
                overage_limit=plan.cap,
            )
            rights.append(base)
            if plan.hourly is not None:
                rights.append(
                    Right(
                        kind="metered",
                        meter_id=self.meter_ids[meter],
                        anchor_at=self.anchor_at,
                        starts_at=self.anchor_at,
                        window="hour",
                        included=plan.hourly,
                    )
                )
        self.model.deny = deny
        standing = StandingTerms(
            plan_key="p",
            deny_code="payment_failed" if deny else "",
            deny_at=past(60) if deny else None,
        )
        now = datetime.now(UTC)
        entitle(self.customer.id, rights=rights, standing=standing, source="sub_1", now=now)

    def _asked_of(self, hold: HoldModel) -> tuple[tuple[str, int], ...]:
        told = ((known.wish, known.told or {}) for known in self.model.ids.values())
        wish: Any = next(wish for wish, each in told if each.get("hold", {}).get("id") == hold.id)
        return tuple(wish[1])

    def _body(self, mode: str, id_: str, wanted: Mapping[str, int]) -> dict[str, Any]:
        rows = [{"meter": meter, "quantity": n} for meter, n in wanted.items()]
        body: dict[str, Any] = {"key": self.key, "mode": mode}
        body |= {"items": rows} if len(rows) > 1 else rows[0]
        return body | ({"id": id_} if mode != "peek" else {})

    def _post(self, id_: str, meter: str, data: dict[str, Any]) -> Got:
        event = {"id": id_, "source": "edge-1", "type": TYPES[meter], "data": data}
        sent = [event | {"subject": self.customer.public_id}]
        got = next(self.turns).send("POST", "/api/v1/events", sent)
        assert got.status == 200
        return got

    def _as_before(self, got: Got, known: Known, wish: object) -> None:
        if known.wish == wish:
            assert (got.status, got.body) == (200, known.told)
            assert got.headers["farebox-replayed"] == "true"
        else:
            assert (got.status, got.body["code"]) == (422, "id_reused")

    @staticmethod
    def _balances(got: Got, expected: list[dict[str, Any]]) -> None:
        def sort(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return sorted(rows, key=lambda row: (row["meter"], row["window"]))

        shown = [{k: v for k, v in row.items() if k != "resets_at"} for row in got.body["balances"]]
        assert sort(shown) == sort(expected)


def _public(row: Hold) -> str:
    return ids.encode_owned(Hold.PREFIX, customer_id=row.customer_id, key=row.id)


def test_every_answer_is_the_models(world: World) -> None:
    """Answers, balances and books, whatever the order of calls, and whichever gate they meet."""
    second = GateProcess()
    second.key = world.gate.key
    Machine.gates = (world.gate, second)
    Machine.meter_ids = {CALLS: world.calls.id, TOKENS: world.tokens.id}
    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=400 if THOROUGH else 25,
                stateful_step_count=50 if THOROUGH else 20,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        second.stop()
