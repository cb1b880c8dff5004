"""The main job in seven steps, each played over HTTP and compared with what it should do."""

from __future__ import annotations

import calendar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from billing.payments.simulator import enter_card
from config.quickstart.catalogue import CALLS, FREE_CALLS, TOKENS
from config.quickstart.demonstration.calling import Answer, Farebox, NotAsExpected, describe, until

Json = dict[str, Any]
GOOD_CARD: Final = "4242 4242 4242 4242"
CARD_THAT_IS_DECLINED: Final = "4000 0000 0000 0341"
PAST_CALLS: Final = 12_500
PAST_TOKENS: Final = 300_000
_EVENTS_AT_ONCE: Final = 5_000


@dataclass(slots=True)
class Story:
    """What the steps share. `fresh` upgrades; `settled` has been a customer for a month.

    `calls` numbers the calls of this telling, so that every id is new.
    """

    farebox: Farebox
    name: str
    now: datetime
    simulated: bool
    fresh: Json = field(default_factory=dict)
    settled: Json = field(default_factory=dict)
    invoice: Json = field(default_factory=dict)
    calls: int = 0

    def next_id(self) -> str:
        """The id of the next call."""
        self.calls += 1
        return f"{self.name}-call-{self.calls}"


def expect(holds: object, sentence: str) -> None:
    """Raises NotAsExpected where it does not hold."""
    if not holds:
        raise NotAsExpected(sentence)


def free_calls_run_out(story: Story) -> str:
    """Step 1."""
    story.fresh = _new_customer(story, suffix="")
    _subscribe(story, story.fresh, plan="free")
    key = story.fresh["key"]
    first = _consume(story, key)
    expect(first.status == 200, f"The first call was answered {describe(first)}.")
    left = first.body["balances"][0]["remaining"]
    expect(left == FREE_CALLS - 1, f"After one call {left} were left.")
    many = [
        {"key": key, "meter": CALLS, "mode": "consume", "id": story.next_id()}
        for _ in range(FREE_CALLS - 2)
    ]
    answers = story.farebox.checks(many)
    expect({each["status"] for each in answers} == {200}, "Calls within the plan were denied.")
    balances = [each["balances"][0]["remaining"] for each in answers]
    expect(balances == list(range(FREE_CALLS - 2, 0, -1)), "The balances do not fall one by one.")
    last = _consume(story, key)
    expect(last.status == 200, f"Call {FREE_CALLS:,} was answered {describe(last)}.")
    denied = _consume(story, key)
    code = denied.body.get("code")
    expect((denied.status, code) == (402, "quota_exhausted"), f"It was {describe(denied)}.")
    plans = [each.get("plan") for each in denied.body["remedies"] if each["would_admit"]]
    expect("pro" in plans, f"The remedies that would admit it name {plans}, not pro.")
    return (
        f"{FREE_CALLS:,} calls were 200, balances falling to 0; call {FREE_CALLS + 1:,} was 402 "
        f"quota_exhausted: upgrade to {', '.join(str(plan) for plan in plans if plan)}"
    )


def upgrade_through_checkout(story: Story) -> str:
    """Step 2."""
    customer = story.fresh
    page = _visit_checkout(story, customer, plan="pro", card=GOOD_CARD)
    _await_plan(story, customer, "pro")
    answer = _consume(story, customer["key"])
    expect(answer.status == 200, f"The next call was answered {describe(answer)}.")
    left = answer.body["balances"][0]["remaining"]
    return f"Card entered at {page}; webhook in; the next call was 200, {left:,} calls left"


def hold_and_settle(story: Story) -> str:
    """Step 3."""
    farebox, key = story.farebox, story.fresh["key"]
    before = _balance(story, key, TOKENS)
    opened = _hold(story, key, quantity=5_000, ttl=60)
    held = opened["balances"][0]["held"]
    expect(held == 5_000, f"{held} tokens were held instead of 5,000.")
    settled = farebox.gate(f"/holds/{opened['hold']['id']}/settle", {"quantity": 1_234})
    after = settled["balances"][0]
    expect(after["held"] == 0, "Settling did not free what was held.")
    used = after["used"] - before["used"]
    expect(used == 1_234, f"{used} tokens were charged instead of 1,234.")
    free = after["remaining"] == before["remaining"] - 1_234
    expect(free, "The difference was not free again at once.")
    forgotten = _hold(story, key, quantity=2_000, ttl=1)["hold"]["id"]
    until(
        "the forgotten hold expires",
        lambda: farebox.hold(forgotten)["state"] == "expired",
    )
    again = _balance(story, key, TOKENS)
    expect(again["remaining"] == after["remaining"], "The forgotten hold did not free itself.")
    return "5,000 held, 1,234 settled, 3,766 free at once; a hold of 1 s expired and freed itself"


def use_more_than_included(story: Story) -> str:
    """Step 4."""
    farebox, customer = story.farebox, story.fresh
    before = _balance(story, customer["key"], TOKENS)
    asked = before["remaining"] + 20_000
    answer = _consume(story, customer["key"], meter=TOKENS, quantity=asked)
    expect(answer.status == 200, f"It was answered {describe(answer)}.")
    overage = answer.body["balances"][0]["overage"]
    expect(overage == 20_000, f"The overage is {overage:,} instead of 20,000.")
    total: int = before["used"] + asked
    start = story.now.replace(minute=0, second=0, microsecond=0)

    def counted() -> bool:
        found = farebox.get(
            "/usage",
            **{"customer": customer["id"], "meter": TOKENS, "from": start.isoformat()},
            bucket="hour",
        )
        by_hour = [int(each["quantity"]) for each in found["data"]]
        return sum(by_hour) == total

    until("usage by the hour is what was used", counted)
    return f"{total:,} of 100,000 tokens: admitted, 20,000 of them overage, summed by the hour"


def period_ends_and_is_paid(story: Story) -> str:
    """Step 5."""
    story.settled = customer = _new_customer(story, suffix="-since-last-month")
    if story.simulated:
        _visit_checkout(story, customer, plan=None, card=GOOD_CARD)
        _await_card(story, customer)
    start_at = _month_before(story.now - timedelta(hours=1))
    _report_past_usage(story, customer, start_at)
    subscription = _subscribe(story, customer, plan="pro", start_at=start_at.isoformat())
    until("the period is closed", lambda: _invoices(story, customer))
    if story.simulated:
        story.invoice = until("the invoice is paid", lambda: _paid(story, customer))
    else:
        issued = until("the invoice is issued", lambda: _invoices(story, customer, "open"))[0]
        story.invoice = story.farebox.post(
            f"/invoices/{issued['id']}/mark-paid", {"reference": "by hand"}, status=200
        )
    total = story.invoice["total"]
    expected = expected_total()
    expect(total == expected, f"The invoice is over {total} instead of {expected} cents.")
    lines = sum(line["amount"] for line in story.invoice["lines"])
    expect(lines == total, f"Its lines sum up to {lines}.")
    postings = story.farebox.get("/ledger-postings", customer=customer["id"], limit="100")["data"]
    sums = [sum(entry["amount"] for entry in each["entries"]) for each in postings]
    expect(postings and not any(sums), "The ledger does not balance.")
    ending = f"paid; {len(postings)} postings balance"
    if story.simulated:
        stripe = story.farebox.stripe_invoice(story.invoice["stripe_invoice"])
        same = (stripe["total"], stripe["status"]) == (total, "paid")
        expect(same, f"Stripe says {stripe['total']} and {stripe['status']}.")
        ending = f"at Stripe the same, {ending}"
    story.settled["subscription"] = subscription["id"]
    return f"{story.invoice['number']}: {_dollars(total)}, as computed by hand; {ending}"


def card_is_declined_and_mended(story: Story) -> str:
    """Step 6."""
    customer = story.settled
    before = _card(story, customer)
    _visit_checkout(story, customer, plan=None, card=CARD_THAT_IS_DECLINED)
    until("the other card is known", lambda: _card(story, customer) not in (None, before))
    story.farebox.post(
        f"/subscriptions/{customer['subscription']}/change",
        {"plan": "pro-weekly", "when": "now"},
        status=200,
    )

    def denied() -> Answer | None:
        answer = story.farebox.check(key=customer["key"], meter=CALLS)
        return answer if answer.status != 200 else None

    answer = until("calls are denied", denied)
    code = answer.body.get("code")
    expect((answer.status, code) == (402, "payment_failed"), f"It was {describe(answer)}.")
    ways = [each["action"] for each in answer.body["remedies"]]
    expect("update_payment_method" in ways, f"The remedies are {ways}.")
    _visit_checkout(story, customer, plan=None, card=GOOD_CARD)
    until(
        "the next call is 200",
        lambda: story.farebox.check(key=customer["key"], meter=CALLS).status == 200,
    )
    invoices = _invoices(story, customer)
    expect(
        len(invoices) == 2 and {each["status"] for each in invoices} == {"paid"},
        f"The invoices are {[(each['number'], each['status']) for each in invoices]}.",
    )
    return f"402 payment_failed, remedies {', '.join(ways)}; new card, invoice paid, 200"


def finance_downloads(story: Story) -> str:
    """Step 7."""
    customer, invoice = story.settled, story.invoice
    span = {
        "from": invoice["period"]["start_at"],
        "to": invoice["period"]["end_at"],
        "customer": customer["id"],
    }
    lines = story.farebox.rows("/reports/invoice-lines.csv", **span)
    total = sum(int(row["amount"]) for row in lines)
    expect(total == invoice["total"], f"The lines sum up to {total}, not {invoice['total']}.")
    usage = story.farebox.rows("/reports/usage.csv", **span)
    used = {row["meter"]: int(row["used"]) for row in usage}
    expect(used == {CALLS: PAST_CALLS, TOKENS: PAST_TOKENS}, f"The usage is {used}.")
    billed = sum(int(row["amount"]) for row in usage)
    of_usage = sum(each["amount"] for each in invoice["lines"] if each["kind"] == "usage")
    expect(billed == of_usage, f"Usage was billed at {billed} and invoiced at {of_usage}.")
    return f"{len(lines)} lines, {_dollars(total)}: to the cent what {invoice['number']} says"


def expected_total() -> int:
    """The past period's invoice in cents, by hand: fee, calls past 10,000, tokens past 100,000."""
    calls = (PAST_CALLS - 10_000) * Decimal("0.001")
    tokens = (PAST_TOKENS - 100_000) * Decimal("0.00002")
    return 2_000 + int(calls * 100) + int(tokens * 100)


# --- what the steps are made of --------------------------------------------------------------


def _new_customer(story: Story, *, suffix: str) -> Json:
    name = f"{story.name}{suffix}"
    made = story.farebox.post("/customers", {"external_id": name, "name": name.replace("-", " ")})
    key = story.farebox.post("/api-keys", {"customer": made["id"], "name": "demonstration"})
    return {"id": made["id"], "key": key["key"]}


def _subscribe(story: Story, customer: Json, **terms: str) -> Json:
    collection = "stripe" if story.simulated else "manual"
    return story.farebox.post(
        "/subscriptions", {"customer": customer["id"], "collection": collection, **terms}
    )


def _consume(story: Story, key: str, *, meter: str = CALLS, quantity: int = 1) -> Answer:
    return story.farebox.check(
        key=key, meter=meter, quantity=quantity, mode="consume", id=story.next_id()
    )


def _hold(story: Story, key: str, *, quantity: int, ttl: int) -> Json:
    answer = story.farebox.check(
        key=key, meter=TOKENS, quantity=quantity, mode="hold", id=story.next_id(), ttl=ttl
    )
    expect(answer.status == 200, f"The hold was answered {describe(answer)}.")
    return answer.body


def _balance(story: Story, key: str, meter: str) -> Json:
    answer = story.farebox.check(key=key, meter=meter, quantity=0)
    expect(answer.status == 200, f"The balance was answered {describe(answer)}.")
    found: Json = answer.body["balances"][0]
    return found


def _visit_checkout(story: Story, customer: Json, *, plan: str | None, card: str) -> str:
    visit = story.farebox.post("/checkout-sessions", {"customer": customer["id"], "plan": plan})
    try:
        enter_card(visit["url"], card)
    except (ValueError, OSError) as error:
        raise NotAsExpected(f"Checkout did not take the card: {error}") from error
    return str(visit["url"]).split("/checkout/", maxsplit=1)[0]


def _await_plan(story: Story, customer: Json, plan: str) -> None:
    def changed() -> bool:
        (found,) = story.farebox.get("/subscriptions", customer=customer["id"])["data"]
        return bool(found["plan"] == plan and found["status"] == "active")

    until(f"the plan is {plan}", changed)


def _card(story: Story, customer: Json) -> Json | None:
    found: Json | None = story.farebox.get(f"/customers/{customer['id']}/state")["payment_method"]
    return found


def _await_card(story: Story, customer: Json) -> None:
    until("the card is known", lambda: _card(story, customer))


def _report_past_usage(story: Story, customer: Json, start_at: datetime) -> None:
    """Events of last month, spread over its days; a call is an event, tokens come in bundles."""
    step = timedelta(days=27) / PAST_CALLS
    bundle = 5_000
    events = [
        _event(story, customer, "api.call", start_at + step * number, {})
        for number in range(PAST_CALLS)
    ]
    events += [
        _event(story, customer, "llm.completion", start_at + step * number, {"tokens": bundle})
        for number in range(PAST_TOKENS // bundle)
    ]
    accepted = 0
    for first in range(0, len(events), _EVENTS_AT_ONCE):
        batch = events[first : first + _EVENTS_AT_ONCE]
        accepted += story.farebox.gate("/events", batch)["accepted"]
    expect(accepted == len(events), f"{accepted:,} of {len(events):,} events were accepted.")


def _event(story: Story, customer: Json, kind: str, at: datetime, data: Json) -> Json:
    return {
        "specversion": "1.0",
        "id": story.next_id(),
        "source": "demonstration",
        "type": kind,
        "subject": customer["id"],
        "time": at.isoformat(),
        "data": {**data, "model": "example"},
    }


def _invoices(story: Story, customer: Json, status: str | None = None) -> list[Json]:
    query = {"customer": customer["id"]} | ({"status": status} if status else {})
    found: list[Json] = story.farebox.get("/invoices", **query)["data"]
    return found


def _paid(story: Story, customer: Json) -> Json | None:
    found = _invoices(story, customer, "paid")
    return found[0] if found else None


def _month_before(at: datetime) -> datetime:
    year, month = (at.year, at.month - 1) if at.month > 1 else (at.year - 1, 12)
    day = min(at.day, calendar.monthrange(year, month)[1])
    return at.replace(year=year, month=month, day=day, microsecond=0)


def _dollars(cents: int) -> str:
    return f"${cents // 100:,}.{cents % 100:02d}"
