"""Sowing the example: a catalogue, two customers, and the keys and people to try it with.

What is there already is left as it is; what is missing is made. A secret that was lost with the
state file is replaced by a new one, for the old one exists nowhere any more.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any

from accounts.domain.keys import digest_of
from accounts.domain.routes import Route
from accounts.models import ApiKey, Customer, Gateway, GatewayKey, Member, OperatorKey
from accounts.operations.customers import create_customer
from accounts.operations.gateways import create_gateway
from accounts.operations.keys import issue_api_key, issue_gateway_key, issue_operator_key
from accounts.operations.members import create_member, set_password
from billing.models import Plan
from billing.operations.catalogue import create_plan
from billing.operations.plan_shapes import VersionTerms
from billing.operations.subscribing import subscribe
from billing.queries.subscriptions import current_subscription
from config.quickstart import catalogue
from config.quickstart.state import State
from metering.models import Meter
from metering.operations.defining import define_meter

ACTOR = "quickstart"
ADMIN = "admin@farebox.example"


def sow(state: State, *, now: datetime) -> State:
    """Make what is missing; returns the state with every key and password that works."""
    known = dict(state)
    sow_catalogue(now=now)
    known["operator_key"] = _operator_key(known.get("operator_key", ""), now=now)
    known["gateway_key"] = _gateway_key(known.get("gateway_key", ""), now=now)
    known["admin"] = _person(known.get("admin"), email=ADMIN, customer_id=None, now=now)
    before = {each["external_id"]: each for each in known.get("customers", [])}
    known["customers"] = [
        _customer(terms, before.get(terms["external_id"], {}), now=now)
        for terms in catalogue.CUSTOMERS
    ]
    return known


def sow_catalogue(*, now: datetime) -> None:
    """Define the meters and plans that are not there."""
    for meter in catalogue.METERS:
        if not Meter.objects.filter(key=meter["key"]).exists():
            define_meter(**meter, actor=ACTOR, now=now)
    for plan in catalogue.PLANS:
        if Plan.objects.filter(key=plan["key"]).exists():
            continue
        terms = {name: value for name, value in plan.items() if name not in ("key", "name")}
        create_plan(
            key=plan["key"],
            name=plan["name"],
            terms=VersionTerms(**terms),
            activate=True,
            actor=ACTOR,
            now=now,
        )


def _operator_key(known: str, *, now: datetime) -> str:
    if known and OperatorKey.objects.filter(digest=digest_of(known), revoked_at=None).exists():
        return known
    return issue_operator_key(name="quickstart", scopes=["admin"], actor=ACTOR, now=now)[1].text


def _gateway_key(known: str, *, now: datetime) -> str:
    if known and GatewayKey.objects.filter(digest=digest_of(known), revoked_at=None).exists():
        return known
    gateway = Gateway.objects.filter(name=catalogue.GATEWAY).first()
    if gateway is not None:
        return issue_gateway_key(gateway.id, name="quickstart", actor=ACTOR, now=now)[1].text
    routes = [Route(**route) for route in catalogue.ROUTES]
    made = create_gateway(name=catalogue.GATEWAY, kind="other", routes=routes, actor=ACTOR, now=now)
    return made[1].text


def _person(
    known: dict[str, str] | None, *, email: str, customer_id: int | None, now: datetime
) -> dict[str, str]:
    member = Member.objects.filter(email=email).first()
    if member is not None and known and member.check_password(known["password"]):
        return known
    password = secrets.token_urlsafe(12)
    if member is None:
        create_member(
            email=email,
            customer_id=customer_id,
            password=password,
            is_staff=customer_id is None,
            actor=ACTOR,
            now=now,
        )
    else:
        set_password(member.id, password=password, actor=ACTOR, now=now)
    return {"email": email, "password": password}


def _customer(terms: dict[str, Any], known: dict[str, Any], *, now: datetime) -> dict[str, Any]:
    customer = Customer.objects.filter(external_id=terms["external_id"]).first()
    if customer is None:
        customer = create_customer(
            name=terms["name"],
            email=terms["email"],
            external_id=terms["external_id"],
            actor=ACTOR,
            now=now,
        )
    subscription = current_subscription(customer.id)
    if subscription is None:
        subscription = subscribe(
            customer.id,
            plan=terms["plan"],
            collection=terms.get("collection", "stripe"),
            actor=ACTOR,
            now=now,
        )
    person = _person(known.get("member"), email=terms["email"], customer_id=customer.id, now=now)
    return {
        "external_id": terms["external_id"],
        "name": customer.name,
        "id": customer.public_id,
        "plan": subscription.version.plan.key,
        "api_key": _api_key(customer, known.get("api_key", ""), now=now),
        "member": person,
    }


def _api_key(customer: Customer, known: str, *, now: datetime) -> str:
    live = ApiKey.objects.filter(customer=customer, revoked_at=None)
    if known and live.filter(digest=digest_of(known)).exists():
        return known
    return issue_api_key(customer.id, name="quickstart", actor=ACTOR, now=now)[1].text
