"""The main job, step by step, as customers, gateways, operators and finance live it.

Real gate, real Django, real webhooks; worker and beat are played by `live.settle`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.models import Invoice, LedgerEntry, StripeEvent
from billing.payments.simulator import enter_card
from config.quickstart.catalogue import CALLS, TOKENS
from config.quickstart.demonstration.calling import until
from metering.models import Balance, Rollup, UsageBatch, UsageEvent
from tests.flows.conftest import Live

Json = dict[str, Any]
DECLINED_LATER = "4000000000000341"
LAST_MONTH = timedelta(days=31, hours=1)

pytestmark = pytest.mark.timeout(180)


def a_customer(live: Live, name: str = "ada", *, plan: str | None = None, **terms: str) -> Json:
    """A customer with a key, subscribed if asked for."""
    made = live.farebox.post("/customers", {"external_id": name, "name": name})
    key = live.farebox.post("/api-keys", {"customer": name, "name": "test"})["key"]
    subscription = None
    if plan is not None:
        subscription = live.farebox.post(
            "/subscriptions", {"customer": name, "plan": plan, **terms}
        )
    return {"id": made["id"], "name": name, "key": key, "subscription": subscription}


def enter_card_on_checkout(
    live: Live, customer: Json, *, plan: str | None, card: str = "4242424242424242"
) -> None:
    """Visit Checkout as the customer, and let the webhook be worked off."""
    visit = live.farebox.post("/checkout-sessions", {"customer": customer["id"], "plan": plan})
    enter_card(visit["url"], card)
    live.settle()


def a_paying_customer(live: Live, *, ago: timedelta = timedelta(0)) -> Json:
    """A customer on pro with a card that works, since now or for a while."""
    customer = a_customer(live)
    enter_card_on_checkout(live, customer, plan=None)
    start_at = (datetime.now(UTC) - ago).isoformat()
    customer["subscription"] = live.farebox.post(
        "/subscriptions", {"customer": "ada", "plan": "pro", "start_at": start_at}
    )
    return customer


def consume(live: Live, customer: Json, quantity: int = 1, *, id_: str, meter: str = CALLS) -> Any:
    return live.farebox.check(
        key=customer["key"], meter=meter, quantity=quantity, mode="consume", id=id_
    )


def report(live: Live, customer: Json, *, kind: str, at: datetime, ids: str, **data: Any) -> None:
    event = {"id": ids, "source": "test", "type": kind, "subject": customer["id"]}
    answer = live.farebox.gate("/events", [{**event, "time": at.isoformat(), "data": data}])
    assert answer["accepted"] == 1, answer


def test_a_free_customer_runs_out_and_the_denial_names_the_plan_that_would_admit(
    live: Live,
) -> None:
    ada = a_customer(live, plan="free")
    checks = [
        {"key": ada["key"], "meter": CALLS, "mode": "consume", "id": f"call-{n}"}
        for n in range(1, 1_001)
    ]
    answers = live.farebox.checks(checks)
    assert {each["status"] for each in answers} == {200}
    assert [each["balances"][0]["remaining"] for each in answers] == list(range(999, -1, -1))

    denied = consume(live, ada, id_="call-1001")

    assert denied.status == 402
    body = denied.body
    assert (body["code"], body["max_admissible"], body["retry"]) == (
        "quota_exhausted", 0, "after_reset",
    )  # fmt: skip
    assert body["balances"][0]["used"] == 1_000
    ways = {each.get("plan"): each["would_admit"] for each in body["remedies"]}
    assert ways["pro"] is True
    assert "free" not in ways
    (balance,) = Balance.objects.filter(meter__key=CALLS)
    assert (balance.used, balance.held, UsageEvent.objects.count()) == (1_000, 0, 1_000)


def test_an_upgrade_through_checkout_admits_the_very_next_call(live: Live) -> None:
    ada = a_customer(live, plan="free")
    assert consume(live, ada, 1_000, id_="all").status == 200
    assert consume(live, ada, id_="one-more").status == 402
    visit = live.farebox.post("/checkout-sessions", {"customer": ada["id"], "plan": "pro"})

    enter_card(visit["url"])
    live.stripe.wait_for_webhooks()

    assert StripeEvent.objects.filter(type="checkout.session.completed").count() == 1
    assert consume(live, ada, id_="one-more").status == 402  # nobody has worked it off yet
    live.settle()
    admitted = consume(live, ada, id_="one-more")
    assert admitted.status == 200
    assert admitted.body["plan"] == "pro"
    found = live.farebox.get(f"/checkout-sessions/{visit['id']}")
    assert found["status"] == "complete"


def test_a_forged_webhook_changes_nothing(live: Live) -> None:
    ada = a_customer(live, plan="free")
    live.farebox.post("/checkout-sessions", {"customer": ada["id"], "plan": "pro"})
    event = {"id": "evt_forged", "object": "event", "type": "checkout.session.completed"}

    answer = live.farebox.post("/stripe/webhook", event, status=400)

    assert answer["code"] == "signature_invalid"
    live.settle()
    assert not StripeEvent.objects.filter(id="evt_forged").exists()
    (subscription,) = live.farebox.get("/subscriptions", customer="ada")["data"]
    assert subscription["plan"] == "free"


def test_what_was_held_and_not_used_is_free_at_once_and_a_forgotten_hold_frees_itself(
    live: Live,
) -> None:
    ada = a_customer(live, plan="free")
    hold = {"key": ada["key"], "meter": TOKENS, "mode": "hold"}

    answer = live.farebox.check(**hold, quantity=9_000, id="hold-1")
    assert answer.status == 200, answer
    opened = answer.body
    assert (opened["balances"][0]["held"], opened["balances"][0]["remaining"]) == (9_000, 1_000)
    full = live.farebox.check(**hold, quantity=1_001, id="hold-2")
    assert (full.status, full.body["code"]) == (429, "in_flight")
    path = f"/holds/{opened['hold']['id']}/settle"
    settled = live.farebox.gate(path, {"quantity": 2_000})
    assert settled == live.farebox.gate(path, {"quantity": 2_000})
    (balance,) = settled["balances"]
    assert (balance["used"], balance["held"], balance["remaining"]) == (2_000, 0, 8_000)
    assert live.farebox.check(**hold, quantity=8_000, id="hold-2", ttl=1).status == 200
    state = until(
        "the hold expires",
        lambda: live.farebox.check(key=ada["key"], meter=TOKENS, quantity=8_000).status == 200,
    )

    assert state
    live.settle()
    (stored,) = Balance.objects.filter(meter__key=TOKENS)
    assert (stored.used, stored.held) == (2_000, 0)


def test_usage_past_the_included_is_admitted_and_rolled_up_by_the_hour(live: Live) -> None:
    ada = a_paying_customer(live)
    for number in range(3):
        answer = consume(live, ada, 50_000, id_=f"tokens-{number}", meter=TOKENS)
        assert answer.status == 200

    (balance,) = answer.body["balances"]
    assert (balance["used"], balance["remaining"], balance["overage"]) == (150_000, 0, 50_000)
    assert UsageBatch.objects.exists()
    live.settle()
    assert not UsageBatch.objects.exists()
    assert sum(Rollup.objects.values_list("quantity", flat=True)) == 150_000
    usage = live.farebox.get("/usage", customer="ada", meter=TOKENS, bucket="hour")["data"]
    assert sum(point["quantity"] for point in usage) == 150_000


def test_the_period_ends_and_one_exact_invoice_is_paid_and_balances(live: Live) -> None:
    ada = a_customer(live)
    enter_card_on_checkout(live, ada, plan=None)
    start_at = datetime.now(UTC) - LAST_MONTH
    report(live, ada, kind="api.call", at=start_at, ids="first", quantity=10_001)
    after = start_at + timedelta(days=20)
    report(live, ada, kind="llm.completion", at=after, ids="tokens", tokens=1_350_000)
    terms = {"customer": "ada", "plan": "pro", "start_at": start_at.isoformat()}
    live.farebox.post("/subscriptions", terms)

    live.settle()

    (invoice,) = live.farebox.get("/invoices", customer="ada")["data"]
    lines = {(line["kind"], line["meter"]): line["amount"] for line in invoice["lines"]}
    # 1 call at 0.001 rounds to nothing; a million tokens at 0.00002 and 250,000 at 0.00001.
    assert lines.pop(("usage", CALLS), 0) == 0
    assert lines == {("fee", None): 2_000, ("usage", TOKENS): 2_250}
    assert (invoice["status"], invoice["total"], invoice["amount_due"]) == ("paid", 4_250, 0)
    stripe = live.stripe.get(invoice["stripe_invoice"])
    assert (stripe["total"], stripe["status"]) == (4_250, "paid")
    sums: dict[str, int] = {}
    for account, amount in LedgerEntry.objects.values_list("account", "amount"):
        sums[account] = sums.get(account, 0) + amount
    assert sum(sums.values()) == 0
    assert Invoice.objects.count() == 1
    live.settle()
    assert Invoice.objects.count() == 1


def test_a_declined_card_denies_after_the_grace_and_a_better_one_serves_again(live: Live) -> None:
    # Within the second in which it began there would be no period to bill.
    ada = a_paying_customer(live, ago=timedelta(hours=1))
    enter_card_on_checkout(live, ada, plan=None, card=DECLINED_LATER)
    change = f"/subscriptions/{ada['subscription']['id']}/change"

    live.farebox.post(change, {"plan": "pro-weekly", "when": "now"}, status=200)

    def issued() -> dict[str, Any] | None:
        # A change "now" counts from the next whole second, so the period ends within one.
        live.settle()
        found = live.farebox.get("/invoices", customer="ada")["data"]
        assert len(found) <= 1
        return next((dict(each) for each in found if each["status"] != "draft"), None)

    invoice = until("the invoice of the ended period is issued", issued)
    assert (invoice["status"], invoice["amount_paid"]) == ("open", 0)
    denied = live.farebox.check(key=ada["key"], meter=CALLS)
    assert (denied.status, denied.body["code"]) == (402, "payment_failed")
    ways = {each["action"]: each for each in denied.body["remedies"]}
    assert ways["update_payment_method"]["would_admit"] is True
    assert ways["pay_invoice"]["href"] == invoice["hosted_url"]
    enter_card_on_checkout(live, ada, plan=None)
    (invoice,) = live.farebox.get("/invoices", customer="ada")["data"]
    assert (invoice["status"], invoice["amount_due"]) == ("paid", 0)
    assert live.farebox.check(key=ada["key"], meter=CALLS).status == 200


def test_within_the_grace_a_declined_card_is_served(live: Live) -> None:
    ada = a_customer(live)
    enter_card_on_checkout(live, ada, plan=None, card=DECLINED_LATER)
    start_at = datetime.now(UTC) - LAST_MONTH
    terms = {"customer": "ada", "plan": "pro", "start_at": start_at.isoformat()}
    made = live.farebox.post("/subscriptions", terms)

    live.settle()

    found = live.farebox.get(f"/subscriptions/{made['id']}")
    assert found["status"] == "past_due"
    assert found["grace_ends_at"] is not None
    assert live.farebox.check(key=ada["key"], meter=CALLS).status == 200


def test_finance_downloads_what_was_invoiced_to_the_cent(live: Live) -> None:
    ada = a_paying_customer(live, ago=LAST_MONTH)
    live.settle()
    (invoice,) = live.farebox.get("/invoices", customer="ada")["data"]
    span = {"from": invoice["period"]["start_at"], "to": invoice["period"]["end_at"]}

    lines = live.farebox.rows("/reports/invoice-lines.csv", **span)
    usage = live.farebox.rows("/reports/usage.csv", **span)

    assert sum(int(row["amount"]) for row in lines) == invoice["total"] == 2_000
    assert {row["customer_id"] for row in lines} == {ada["id"]}
    assert all(int(row["used"]) == 0 for row in usage)
