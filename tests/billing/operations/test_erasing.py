"""billing.operations.erasing: nobody is recognised any more, and every number stays."""

from __future__ import annotations

import io
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection

from accounts.models import ApiKey, AuditEntry, Customer, Member
from accounts.operations.versions import CustomerUnknown
from billing.models import (
    CheckoutSession,
    Invoice,
    LedgerPosting,
    StripeCustomer,
    StripeEvent,
    StripeStep,
    Subscription,
)
from billing.operations.erasing import CustomerInUse, erase_customer
from billing.queries.customer_data import TABLES, customer_data
from metering.models import Correction, Denial, Hold, Meter, QuarantinedEvent, RollupMember
from metering.operations.checking import broken_invariants
from metering.operations.rerolling import reroll
from metering.operations.rolling_up import roll_up, roll_up_days
from metering.queries.usage import usage, usage_total
from tests.factories.accounts import Api, a_customer, an_api_key, an_operator_key, operator
from tests.factories.billing import START, a_plan, a_subscription, bill
from tests.factories.metering import make_customer, make_meter, open_hold
from tests.factories.usage import count_on

NOW = START + timedelta(days=40)
SECRET = "alice"
pytestmark = pytest.mark.django_db


def a_person() -> tuple[Customer, list[Meter]]:
    """A customer whose every text has the same name in it, with usage of every kind."""
    customer = make_customer(
        external_id=f"{SECRET}-1",
        name=SECRET,
        email=f"{SECRET}@example.com",
        metadata={"a": SECRET},
    )
    Member.objects.create(email=f"{SECRET}@example.com", name=SECRET, customer=customer)
    AuditEntry.objects.create(
        at=START, actor="opk_1", action="customer.created", subject="x", customer=customer,
        changes={"name": SECRET},
    )  # fmt: skip
    meters = [
        make_meter(aggregation=kind, dimensions=["user", "model"])
        for kind in ("sum", "unique", "latest", "max")
    ]
    for number in range(6):
        at = START + timedelta(days=number, hours=1)
        kept = {"user": f"{SECRET}-{number % 2}", "model": "m", "mail": SECRET}
        for meter in meters:
            value = f"{SECRET}-{number % 3}" if meter.aggregation == "unique" else number + 1
            event = count_on(customer, meter, value, at=at, properties=kept)
    Correction.objects.create(
        customer_id=customer.id, event_id=event.id, received_month=event.received_month,
        number=1, kind="amend", occurred_at=event.occurred_at, usage=event.usage, properties=kept,
        reason=SECRET,
        actor="opk_1", at=NOW,
    )  # fmt: skip
    roll_up(limit=20)  # the rest waits
    roll_up_days(now=START + timedelta(days=3, hours=3))
    hold = open_hold(customer, meters[0], 5, at=START)
    Hold.objects.filter(customer_id=customer.id, id=hold.id).update(
        state="released", closed_at=NOW, properties={"a": SECRET}, source=SECRET
    )
    Denial.objects.create(
        customer_id=customer.id, id=UUID(int=1), code="x", first_at=NOW, last_at=NOW,
        problem={"a": SECRET},
    )  # fmt: skip
    QuarantinedEvent.objects.create(
        digest=UUID(int=1), subject=f"{SECRET}-1", source=SECRET, external_id=SECRET, type="t",
        properties={}, code="meter_unknown", detail="", first_at=NOW, last_at=NOW,
    )  # fmt: skip
    QuarantinedEvent.objects.create(
        digest=UUID(int=2), source="edge", shape="litellm", code="parameter_missing", detail="",
        properties={"metadata": {"user_api_key_user_id": f"{SECRET}-1"}},
        first_at=NOW, last_at=NOW,
    )  # fmt: skip
    return customer, meters


def numbers(customer: Customer, meters: list[Meter]) -> list[Any]:
    """All that is counted: totals, groups by the kept dimension, how many groups by the other."""
    found: list[Any] = []
    for meter in meters:
        asked: dict[str, Any] = {"meter_id": meter.id, "start_at": START, "end_at": NOW}
        found.append(usage_total(customer.id, **asked))
        found += [
            usage(customer.id, bucket="day", group_by=names, **asked) for names in ([], ["model"])
        ]
        by_user = usage(customer.id, bucket="day", group_by=["user"], **asked)
        found.append([(point.start_at, point.quantity) for point in by_user])
    return found


def everything() -> str:
    """All rows of all tables as text."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT format('%I', relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p') AND NOT relispartition"
        )
        tables = [name for (name,) in cursor.fetchall()]
        found = []
        for table in tables:
            cursor.execute(
                f"SELECT coalesce(string_agg(to_jsonb(t)::text, '|'), '') FROM {table} t"
            )
            found.append(cursor.fetchone()[0])
    return "\n".join(found)


def erase(customer: Customer, **changed: Any) -> int:
    asked: dict[str, Any] = {
        "kept_dimensions": ["model"], "reason": "asked for", "actor": "opk_1", "now": NOW,
    }  # fmt: skip
    return erase_customer(customer.id, **asked | changed).events


def test_no_table_knows_the_name_and_no_number_changes() -> None:
    customer, meters = a_person()
    other = make_customer(name="bob")
    count_on(other, meters[1], "bob", at=START, properties={"user": "bob"})
    key, _ = an_api_key(customer=customer, name=SECRET)
    before = numbers(customer, meters)
    assert SECRET in everything()
    assert erase(customer) == 24
    assert SECRET not in everything()
    assert numbers(customer, meters) == before
    assert usage_total(other.id, meter_id=meters[1].id, start_at=START, end_at=NOW) == 1
    customer.refresh_from_db()
    assert (customer.name, customer.external_id, customer.suspended_at) == ("Erased", None, NOW)
    assert customer.erased_at == NOW
    assert ApiKey.objects.get(id=key.id).revoked_at == NOW
    assert RollupMember.objects.filter(customer_id=other.id, member="bob").exists()
    assert "bob" in everything()
    entry = AuditEntry.objects.get(action="customer.erased")
    assert entry.changes == {"reason": "asked for", "events": 24, "kept": ["model"]}
    assert broken_invariants(now=NOW, since=START) == []
    # Twice is as good as once, and buckets can still be made anew.
    assert erase(customer, now=NOW + timedelta(days=1)) == 24
    customer.refresh_from_db()
    assert customer.erased_at == NOW
    reroll(customer.id, start_at=START, end_at=START + timedelta(days=9))
    assert numbers(customer, meters)[0] == before[0]
    assert broken_invariants(now=NOW, since=START) == []


def test_the_same_member_is_told_apart_everywhere_else() -> None:
    meter = make_meter(aggregation="unique")
    customers = [make_customer() for _ in range(2)]
    for customer in customers:
        count_on(customer, meter, SECRET, at=START)
        erase(customer)
    assert len(set(RollupMember.objects.values_list("member", flat=True))) == 2


def test_what_goes_on_must_end_first() -> None:
    subscription = a_subscription(a_plan())
    customer = subscription.customer
    meter = make_meter()
    before = everything()
    with pytest.raises(CustomerInUse, match="a subscription that is not canceled"):
        erase(customer)
    invoice = bill(subscription, now=datetime(2026, 11, 1, 2, tzinfo=START.tzinfo))
    Subscription.objects.update(status="canceled", canceled_at=NOW)
    with pytest.raises(CustomerInUse, match="draft or open, an invoice on its way"):
        erase(customer)
    type(invoice).objects.filter(id=invoice.id).update(status="paid", push="pushed")
    open_hold(customer, meter, 5)
    with pytest.raises(CustomerInUse, match="an open hold"):
        erase(customer)
    Hold.objects.update(state="released", closed_at=NOW)
    assert customer.name in before
    customer.refresh_from_db()
    assert customer.name != "Erased"
    erase(customer)
    invoice.refresh_from_db()
    assert (invoice.total, invoice.lines.count()) == (2_000, 1)


def test_what_stripe_was_told_and_said_goes() -> None:
    customer, _ = a_person()
    StripeCustomer.objects.create(
        customer=customer, stripe_customer="cus_s", card_last4="4242", updated_at=NOW
    )
    session = CheckoutSession.objects.create(
        customer=customer, url=SECRET, status="complete", created_at=NOW
    )
    for number, subject in enumerate((customer.public_id, session.public_id)):
        StripeStep.objects.create(
            subject=subject, kind="customer", key=f"k{number}", request={"email": SECRET},
            answer={"email": SECRET}, state="done", created_at=NOW,
        )  # fmt: skip
    said = {"data": {"object": {"customer": "cus_s", "name": SECRET}}}
    for number, object_id in enumerate(("cus_s", "in_1")):
        StripeEvent.objects.create(
            id=f"evt_{number}", type="x", object_id=object_id, payload=said, created_at=NOW,
            received_at=NOW, processed_at=NOW, next_attempt_at=NOW,
        )  # fmt: skip
    erase(customer)
    assert SECRET not in everything()
    assert StripeCustomer.objects.get().card_last4 == ""


def test_what_is_on_its_way_to_or_from_stripe_is_waited_for() -> None:
    customer, _ = a_person()
    session = CheckoutSession.objects.create(customer=customer, created_at=NOW)
    for status in ("pending", "open"):
        CheckoutSession.objects.update(status=status)
        with pytest.raises(CustomerInUse, match="a visit to Checkout that is not over"):
            erase(customer)
    CheckoutSession.objects.update(status="expired")
    for number, subject in enumerate((customer.public_id, session.public_id)):
        StripeStep.objects.create(
            subject=subject, kind="customer", key=f"k{number}", request={}, created_at=NOW
        )
        with pytest.raises(CustomerInUse, match="a call to Stripe without an answer"):
            erase(customer)
        StripeStep.objects.update(state="done")
    customer.refresh_from_db()
    assert customer.name == SECRET


def test_what_stripe_told_and_nobody_read_is_kept_until_it_is() -> None:
    customer, _ = a_person()
    StripeCustomer.objects.create(customer=customer, stripe_customer="cus_s", updated_at=NOW)
    said = {"data": {"object": {"customer": "cus_s"}}}
    told = StripeEvent.objects.create(
        id="evt_1", type="x", object_id="in_1", payload=said, created_at=NOW, received_at=NOW,
        next_attempt_at=NOW,
    )  # fmt: skip
    erase(customer)
    told.refresh_from_db()
    assert told.payload == said
    StripeEvent.objects.update(processed_at=NOW)
    erase(customer)
    told.refresh_from_db()
    assert told.payload == {}


def test_nobody_is_no_customer() -> None:
    with pytest.raises(CustomerUnknown):
        erase_customer(1, reason="x", actor="opk_1", now=NOW)


def test_over_http() -> None:
    customer, _ = a_person()
    api = Api(an_operator_key("admin")[1])
    address = f"customers/{customer.public_id}/erase"
    assert api.call("POST", address, {}).status_code == 422
    hold = Hold.objects.filter(customer_id=customer.id)
    hold.update(state="open", closed_at=None)
    assert api.call("POST", address, {"reason": "asked for"}).status_code == 409
    assert SECRET in everything()
    hold.update(state="released", closed_at=NOW)
    answer = api.call("POST", address, {"reason": "asked for", "keep_dimensions": ["model"]})
    assert (answer.status_code, answer.json()) == (
        200, {"customer": customer.public_id, "events": 24},
    )  # fmt: skip
    assert SECRET not in everything()


def test_by_command() -> None:
    customer, _ = a_person()
    said = io.StringIO()
    with pytest.raises(CommandError, match="no such customer"):
        call_command("customer_data", "erase", "nobody", stdout=said)
    with pytest.raises(CommandError, match="Say why"):
        call_command("customer_data", "erase", customer.public_id, stdout=said)
    Hold.objects.update(state="open", closed_at=None)
    with pytest.raises(CommandError, match="an open hold"):
        call_command("customer_data", "erase", f"{SECRET}-1", "--reason", "r", stdout=said)
    Hold.objects.update(state="released", closed_at=NOW)
    call_command("customer_data", "erase", f"{SECRET}-1", "--reason", "r", stdout=said)
    assert said.getvalue().endswith("is erased; 24 events have pseudonyms.\n")
    assert SECRET not in everything()


@pytest.mark.django_db(transaction=True)
def test_an_export_has_every_table_and_no_secret(tmp_path: Path) -> None:
    customer, _ = a_person()
    _, made = an_api_key(customer=customer)
    said, to = io.StringIO(), tmp_path / "alice.jsonl"
    call_command("customer_data", "export", customer.public_id, "--to", str(to), stdout=said)
    rows = [json.loads(line) for line in to.read_text().splitlines()]
    assert said.getvalue() == f"{len(rows)} rows in {to}\n"
    tables = {row["table"] for row in rows}
    assert tables <= TABLES.keys()
    assert {"accounts_customer", "accounts_member", "metering_reportedevent"} <= tables
    assert sum(row["table"] == "metering_reportedevent" for row in rows) == 24
    assert not any({"digest", "password"} & row["row"].keys() for row in rows)
    assert made.text not in to.read_text()
    assert AuditEntry.objects.filter(action="customer.exported").count() == 1
    call_command("customer_data", "export", customer.public_id, stdout=said)
    assert len(said.getvalue().splitlines()) == len(rows) + 2  # the audit of the first as well


@pytest.mark.django_db(transaction=True)
def test_an_export_over_http_says_what_the_command_says() -> None:
    customer, _ = a_person()
    answer = operator("admin").get(f"customers/{customer.external_id}/export")
    assert answer.status_code == 200
    rows = [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]
    assert rows == [json.loads(text) for text in customer_data(customer.id)]
    assert AuditEntry.objects.get(action="customer.exported").actor.startswith("opk_")
    foreign = a_customer()
    answer = operator("admin").get(f"customers/{foreign.public_id}/export")
    assert SECRET not in b"".join(answer.streaming_content).decode()
    assert operator("admin").get("customers/nobody/export").status_code == 404


# Of a customer and not exported, with the reason.
_LEFT_OUT = {
    "accounts_customerversion": "a number that says when the gate looks again",
    "billing_invoiceline": "inside its invoice",
    "billing_pricesimulation": "of many customers: its invoice says only how far it has come",
    "billing_stripestep": "what the customer and its invoices say, in the words of Stripe",
    "metering_eventorigin": "inside its events",
    "metering_effectiveevent": "a view of events and their corrections",
    "metering_rollupday": "sums of the hours",
    "metering_rollupmonth": "sums of the hours",
}


def test_every_table_of_a_customer_is_exported_or_left_out_with_a_reason() -> None:
    """Whatever points at a customer, or at an agreement, an invoice or a posting of one."""
    owners = {Customer, Invoice, LedgerPosting, Subscription}
    found = {
        model._meta.db_table
        for model in apps.get_models()
        if any(field.related_model in owners for field in model._meta.concrete_fields)
    }
    assert found - TABLES.keys() == _LEFT_OUT.keys()
    assert TABLES.keys() - found == {"accounts_customer"}
