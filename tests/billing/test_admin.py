"""billing.admin: lists and pages answer, actions go through the operations, nothing is edited."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.test import Client

from accounts.models import AuditEntry, Customer, Member
from billing.models import (
    AutoTopUp,
    CouponRedemption,
    Invoice,
    Override,
    PlanVersion,
    Reconciliation,
    SpendLimit,
    StripeCustomer,
    StripeEvent,
    StripeStep,
    Subscription,
    Wallet,
)
from billing.operations import catalogue, collecting, couponing, crediting, customer_credits
from billing.operations.limiting import set_spend_limit
from billing.operations.overriding import override
from billing.operations.plan_shapes import VersionTerms
from tests.factories.accounts import a_customer
from tests.factories.billing import a_plan, a_subscription, bill, calls, fresh
from tests.factories.metering import make_meter

pytestmark = pytest.mark.django_db
MODELS = (
    "plan",
    "planversion",
    "subscription",
    "invoice",
    "ledgerposting",
    "wallet",
    "stripestep",
    "stripeevent",
    "stripecustomer",
    "checkoutsession",
    "dispute",
    "reconciliation",
    "spendlimit",
    "override",
    "coupon",
    "couponredemption",
    "credit",
)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def person(db: None) -> Member:
    return Member.objects.create_superuser("staff@example.com", "correct horse battery")


@pytest.fixture
def staff(person: Member) -> Client:
    return signed_in(person)


@pytest.fixture
def customer(db: None) -> Customer:
    return a_customer(name="Acme")


@pytest.fixture
def subscription(customer: Customer, now: datetime) -> Subscription:
    plan = a_plan(calls(make_meter(key="chat.tokens")), key="pro")
    start = now - timedelta(days=40)
    return a_subscription(plan, customer=customer, start_at=start, now=start)


@pytest.fixture
def invoice(subscription: Subscription, now: datetime) -> Invoice:
    return bill(subscription, now=now)


def signed_in(member: Member) -> Client:
    client = Client()
    client.force_login(member, backend="django.contrib.auth.backends.ModelBackend")
    return client


def act(staff: Client, model: str, action: str, *rows: Any, **fields: str) -> str:
    """Do an action on rows of a list; the page that follows."""
    asked = {"action": action, "_selected_action": [str(row.pk) for row in rows], **fields}
    answer = staff.post(f"/admin/billing/{model}/", asked, follow=True)
    assert answer.status_code == 200
    return str(answer.content.decode())


def a_step(invoice: Invoice, **fields: Any) -> StripeStep:
    given = {"subject": invoice.public_id, "invoice": invoice, "kind": "create", "key": "k1"}
    return StripeStep.objects.create(**given, request={}, created_at=LONG_AGO, **fields)


def an_event(now: datetime, **fields: Any) -> StripeEvent:
    given = {"id": "evt_1", "type": "invoice.paid", "payload": {}, "created_at": LONG_AGO}
    given |= {"received_at": LONG_AGO, "next_attempt_at": now + timedelta(hours=3)}
    return StripeEvent.objects.create(**given, **fields)


def a_redemption(customer_id: int, *, now: datetime) -> CouponRedemption:
    by: dict[str, Any] = {"actor": "opk_1", "now": now}
    couponing.create_coupon(code="SPRING", name="Spring", percent=Decimal(20), **by)
    return couponing.redeem(customer_id, code="SPRING", **by)


def test_everything_is_shown_and_nothing_edited(
    staff: Client, invoice: Invoice, now: datetime
) -> None:
    a_step(invoice)
    an_event(now)
    crediting.top_up_wallet(invoice.customer_id, amount=5, reference="wire", actor="opk_1", now=now)
    set_spend_limit(invoice.customer_id, amount=5, set_by="operator", actor="opk_1", now=now)
    override(invoice.customer_id, terms={"feature": "beta"}, actor="opk_1", now=now)
    a_redemption(invoice.customer_id, now=now)
    customer_credits.grant_credit(invoice.customer_id, amount=5, actor="opk_1", now=now)
    for model in MODELS:
        answer = staff.get(f"/admin/billing/{model}/")
        assert answer.status_code == 200, model
        assert staff.get(f"/admin/billing/{model}/add/").status_code == 403
        row = admin.site.get_model_admin(_class(model)).model.objects.first()
        if row is not None:
            path = f"/admin/billing/{model}/{row.pk}"
            assert staff.get(f"{path}/change/").status_code == 200, model
            assert staff.post(f"{path}/change/", {}).status_code == 403, model
            assert staff.post(f"{path}/delete/", {"post": "yes"}).status_code == 403, model
    page = staff.get(f"/admin/billing/invoice/{invoice.pk}/change/").content.decode()
    assert "Plan-Pro plan" in page or "plan" in page
    assert "$20.00" in staff.get("/admin/billing/invoice/").content.decode()
    assert "Acme" in staff.get("/admin/billing/subscription/?q=acme").content.decode()


def test_wallets_are_topped_up_now_and_by_themselves(
    staff: Client, invoice: Invoice, now: datetime
) -> None:
    crediting.top_up_wallet(invoice.customer_id, amount=5, reference="wire", actor="opk_1", now=now)
    wallet = Wallet.objects.get()
    assert "at least $0.50" in act(staff, "wallet", "top_up", wallet, amount="5")
    page = act(staff, "wallet", "switch_on", wallet, threshold="500", amount="2000")
    assert "monthly_cap" in page
    assert not AutoTopUp.objects.exists()

    assert "Done for 1" in act(staff, "wallet", "top_up", wallet, amount="2500")
    assert "under way" in act(staff, "wallet", "top_up", wallet, amount="2500")
    top_up = Invoice.objects.get(wallet=wallet)
    assert (top_up.total, top_up.automatic, top_up.push) == (2_500, False, "pending")

    terms = {"threshold": "500", "amount": "2000", "monthly_cap": "6000"}
    assert "Done for 1" in act(staff, "wallet", "switch_on", wallet, **terms)
    assert AutoTopUp.objects.get().monthly_cap == 6_000
    assert "TU-000001" in staff.get(f"/admin/billing/wallet/{wallet.pk}/change/").content.decode()
    collecting.mark_payment_failed(top_up.pk, attempt=1, code="card_declined", now=now)
    assert "suppressed" in staff.get("/admin/billing/wallet/").content.decode()
    assert "Done for 1" in act(staff, "wallet", "switch_off", wallet)
    assert not AutoTopUp.objects.get().enabled


def test_a_top_up_whose_form_is_sent_twice_charges_once(
    staff: Client, invoice: Invoice, now: datetime
) -> None:
    crediting.top_up_wallet(invoice.customer_id, amount=5, reference="wire", actor="opk_1", now=now)
    wallet = Wallet.objects.get()
    page = staff.get("/admin/billing/wallet/").content.decode()
    (form,) = set(re.findall(r'name="form" value="(\w{32})"', page))
    for _ in range(2):
        assert "Done for 1" in act(staff, "wallet", "top_up", wallet, amount="2500", form=form)
    top_up = Invoice.objects.get(wallet=wallet)
    collecting.void(top_up.pk, actor="opk_1", now=now)
    assert "Done for 1" in act(staff, "wallet", "top_up", wallet, amount="2500", form=form)
    assert Invoice.objects.get(wallet=wallet) == top_up
    again = staff.get("/admin/billing/wallet/").content.decode()
    assert form not in again  # a page that is opened anew asks for another one


def _class(model: str) -> Any:
    return next(
        each for each in admin.site._registry if each._meta.label_lower.endswith(f".{model}")
    )


def test_versions_are_activated_and_plans_archived(
    staff: Client, person: Member, now: datetime
) -> None:
    first = a_plan(key="pro")
    draft = catalogue.new_version(
        first.plan_id, terms=VersionTerms(fee=3_000), actor="opk_1", now=now
    )
    act(staff, "planversion", "activate", draft)
    assert fresh(draft).state == "active"
    assert fresh(first).state == "archived"
    assert "is archived" in act(staff, "planversion", "activate", first)
    entry = AuditEntry.objects.filter(action="plan.version_activated").latest("at")
    assert entry.actor == person.public_id
    act(staff, "plan", "archive", first.plan)
    assert not PlanVersion.objects.filter(state="active").exists()


def test_subscriptions_are_paused_resumed_changed_and_canceled(
    staff: Client, person: Member, subscription: Subscription
) -> None:
    a_plan(key="scale", fee=9_000)
    act(staff, "subscription", "pause", subscription)
    assert fresh(subscription).status == "paused"
    act(staff, "subscription", "resume", subscription)
    assert fresh(subscription).status == "active"
    assert "no plan" in act(staff, "subscription", "change_plan", subscription, plan="nothing")
    act(staff, "subscription", "change_plan", subscription, plan="scale")
    assert fresh(subscription).version.plan.key == "scale"
    act(staff, "subscription", "cancel_later", subscription)
    assert fresh(subscription).cancel_at is not None
    act(staff, "subscription", "keep", subscription)
    assert fresh(subscription).cancel_at is None
    act(staff, "subscription", "cancel_now", subscription)
    assert fresh(subscription).status == "canceled"
    refused = act(staff, "subscription", "resume", subscription)
    assert "canceled" in refused
    actors = AuditEntry.objects.filter(subject=subscription.public_id).values_list(
        "actor", flat=True
    )
    assert list(actors).count(person.public_id) >= 5


def test_waiting_pushes_are_brought_forward(staff: Client, invoice: Invoice, now: datetime) -> None:
    later = now + timedelta(hours=3)
    Invoice.objects.filter(pk=invoice.pk).update(next_push_at=later)
    act(staff, "stripestep", "try_again", a_step(invoice))
    assert fresh(invoice).next_push_at < later
    Invoice.objects.filter(pk=invoice.pk).update(next_push_at=later)
    act(staff, "invoice", "push_now", invoice)
    assert fresh(invoice).next_push_at < later
    assert "Stripe collects this invoice" in act(staff, "invoice", "mark_paid", invoice)
    Invoice.objects.filter(pk=invoice.pk).update(push="quarantined", next_push_at=None)
    act(staff, "invoice", "push_now", invoice)
    assert (fresh(invoice).push, fresh(invoice).next_push_at) == ("quarantined", None)
    act(staff, "invoice", "release", invoice)
    assert fresh(invoice).push == "pending"
    actions = set(AuditEntry.objects.values_list("action", flat=True))
    assert {"invoice.push_brought_forward", "invoice.quarantine_released"} <= actions


def test_waiting_events_are_brought_forward(staff: Client, now: datetime) -> None:
    event = an_event(now)
    act(staff, "stripeevent", "try_again", event)
    assert fresh(event).next_attempt_at < now + timedelta(hours=1)
    later = now + timedelta(hours=3)
    StripeEvent.objects.update(processed_at=now, next_attempt_at=later)
    act(staff, "stripeevent", "try_again", event)
    assert fresh(event).next_attempt_at == later
    assert AuditEntry.objects.filter(action="stripe_event.brought_forward").count() == 1


def test_an_invoice_is_written_off_and_voided(staff: Client, invoice: Invoice) -> None:
    act(staff, "invoice", "write_off", invoice)
    assert fresh(invoice).status == "uncollectible"
    act(staff, "invoice", "void", invoice)
    assert fresh(invoice).status == "void"


def test_customers_are_held_released_and_linked_anew(
    staff: Client, person: Member, subscription: Subscription, now: datetime
) -> None:
    row = StripeCustomer.objects.get(customer=subscription.customer_id)
    act(staff, "stripecustomer", "hold", row)
    assert fresh(row).held_at is not None
    act(staff, "stripecustomer", "release", row)
    assert fresh(row).held_at is None
    assert "was not deleted" in act(staff, "stripecustomer", "link_anew", row)
    StripeCustomer.objects.update(deleted_at=now)
    act(staff, "stripecustomer", "link_anew", row)
    assert not StripeCustomer.objects.exists()
    actions = AuditEntry.objects.filter(actor=person.public_id).values_list("action", flat=True)
    assert {"collection.held", "collection.released", "customer.linked_anew"} <= set(actions)


def a_reconciliation(now: datetime, *differences: dict[str, str]) -> Reconciliation:
    return Reconciliation.objects.create(
        start_at=LONG_AGO,
        end_at=now,
        made_at=now,
        differences=list(differences),
        differing=len(differences),
    )


def test_what_differs_from_stripe_is_shown(staff: Client, now: datetime) -> None:
    row = a_reconciliation(now)
    page = staff.get(f"/admin/billing/reconciliation/{row.pk}/change/").content.decode()
    assert "the other way round" in page
    found = {"kind": "invoice", "how": "amount", "stripe_id": "in_<1>", "subject": "inv_1"}
    row = a_reconciliation(now, found | {"here": "5 usd", "there": ""})
    page = staff.get(f"/admin/billing/reconciliation/{row.pk}/change/").content.decode()
    assert "in_&lt;1&gt;" in page
    assert "<td>nothing</td>" in page


@pytest.mark.parametrize("model", ["reconciliation", "dispute"])
def test_money_is_shown_only_to_who_may_see_it(model: str, now: datetime) -> None:
    person = Member.objects.create_user("reader@example.com", is_staff=True)
    client = signed_in(person)
    assert client.get(f"/admin/billing/{model}/").status_code == 403
    person.user_permissions.add(Permission.objects.get(codename=f"view_{model}"))
    client = signed_in(Member.objects.get(pk=person.pk))
    assert client.get(f"/admin/billing/{model}/").status_code == 200


def test_who_may_only_look_is_offered_no_action(subscription: Subscription) -> None:
    person = Member.objects.create_user("reader@example.com", is_staff=True)
    person.user_permissions.add(Permission.objects.get(codename="view_subscription"))
    client = signed_in(person)
    page = client.get("/admin/billing/subscription/").content.decode()
    assert "Acme" in page
    assert "Cancel at once" not in page
    act(client, "subscription", "cancel_now", subscription)
    assert fresh(subscription).status == "active"


def test_coupons_and_credits_are_ended(
    staff: Client, person: Member, customer: Customer, now: datetime
) -> None:
    redemption = a_redemption(customer.id, now=now)
    act(staff, "coupon", "archive", redemption.coupon)
    act(staff, "couponredemption", "end", redemption)
    credit = customer_credits.grant_credit(customer.id, amount=5, actor="opk_1", now=now)
    act(staff, "credit", "end", credit)
    assert fresh(credit).left == 0
    assert fresh(redemption.coupon).archived_at is not None
    assert fresh(redemption).ended_at is not None
    actors = AuditEntry.objects.filter(action__in=["coupon.archived", "coupon.ended"])
    assert list(actors.values_list("actor", flat=True)) == [person.public_id] * 2


def test_limits_are_removed_and_overrides_ended(
    staff: Client, subscription: Subscription, now: datetime
) -> None:
    customer_id = subscription.customer_id
    set_spend_limit(customer_id, amount=5, set_by="customer", actor="opk_1", now=now)
    agreed = override(customer_id, terms={"feature": "beta"}, actor="opk_1", now=now)
    act(staff, "spendlimit", "remove", SpendLimit.objects.get())
    assert not SpendLimit.objects.exists()
    act(staff, "override", "end_now", agreed)
    assert Override.objects.get().ends_at is not None
    assert AuditEntry.objects.filter(action="override.ended").exclude(actor="opk_1").exists()
