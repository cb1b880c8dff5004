"""One of everything that the management API tells of, made through it where it can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from accounts.domain import ids
from accounts.models import Customer
from billing.models import Subscription
from metering.models import Denial, Meter
from metering.operations import correcting
from metering.operations.rolling_up import roll_up
from tests.factories import top_ups
from tests.factories.accounts import Api, a_customer, an_api_key, an_operator_key
from tests.factories.billing import bill
from tests.factories.metering import open_hold, report
from tests.factories.payments import give_card
from tests.factories.quarantine import quarantined

DAY = timedelta(days=1)
CENT = {"model": "per_unit", "unit_price": "0.01"}
CALLS = {"meter": "calls", "type": "metered", "included": 10, "over": "bill", "price": CENT}
SEATS = {"included": 1, "price": {"model": "per_unit", "unit_price": "10"}}
TOKENS = [{"model": "m-1", "input": "0.0000025"}, {"model": "*", "input": "0.000001"}]


@dataclass(frozen=True, slots=True)
class Stock:
    """What there is: `names` by what stands for them in paths, and by path where that decides."""

    operator_key: str
    customer_key: str
    empty_key: str  # of a customer who has nothing
    names: Mapping[str, str]
    of_path: Mapping[str, Mapping[str, str]]

    def parameters(self, path: str) -> dict[str, str]:
        """What leads somewhere in a path of the description, by parameter."""
        found = dict(self.names)
        for beginning, own in self.of_path.items():
            if f"{path}/".startswith(f"/api/v1/{beginning}/"):
                found |= own
        return found


def stock(*, now: datetime) -> Stock:
    """Stock up, at Stripe too, which has to be there (a simulator).

    The customer `acme` has everything, `initech` a card and a top-up under way, `hooli` an invoice
    that Stripe does not collect, and `gone` nothing.
    """
    key = an_operator_key()[1]
    api = Api(key)
    acme, initech, hooli, gone = (
        a_customer(external_id=name, email=f"bill@{name}.example", now=now - 50 * DAY)
        for name in ("acme", "initech", "hooli", "gone")
    )
    versions = _sell(api)
    for each in (acme, initech, hooli):
        give_card(each, now=now - 50 * DAY)
    subscription = _subscribe(api, "acme", now=now)
    manual = _subscribe(api, "hooli", now=now, collection="manual")
    event = _use(acme, now=now)
    invoice = bill(subscription, now=now)
    owned = _give(api, versions, now=now) | _pay(api)
    api_key, made = an_api_key(acme)
    routes = [{"path": "/v1/*", "meter": "calls"}]
    gateway = _made(api, "gateways", {"name": "edge", "routes": routes})["id"]
    gateway_key = _made(api, f"gateways/{gateway}/keys", {"name": "second"})["id"]
    names = {
        "reference": "acme",
        "customer": acme.public_id,
        "plan": "pro",
        "version": versions[2],
        "source": versions[0],
        "target": versions[1],
        "subscription": subscription.public_id,
        "invoice": invoice.public_id,
        "event": event,
        "decision": _deny(acme, now=now),
        "gateway": gateway,
        "code": "SPRING",
        "number": "2",
        **owned,
    }
    top_up = top_ups.begin(initech, now=now)
    of_path = {
        "customers/{reference}/erase": {"reference": "gone"},
        "customers/{reference}/top-ups/{top_up}": {
            "reference": "initech", "top_up": top_up.public_id,
        },
        "invoices/{invoice}/mark-paid": {"invoice": bill(manual, now=now).public_id},
        "meters": {"reference": "calls"},
        "api-keys": {"key": api_key.public_id},
        "me/api-keys": {"key": api_key.public_id},
        "operator-keys": {"key": an_operator_key()[0].public_id},
        "gateways": {"key": gateway_key},
        "price-tables": {"key": "llm"},
    }  # fmt: skip
    return Stock(key.text, made.text, an_api_key(gone)[1].text, names, of_path)


def _made(api: Api, path: str, body: Any) -> dict[str, Any]:
    answer = api.post(path, body)
    assert answer.status_code in (200, 201), (path, answer.content)
    told: dict[str, Any] = answer.json()
    return told


def _sell(api: Api) -> tuple[str, str, str]:
    """A price table, meters, plans; the ids of the three versions of one of them."""
    _made(api, "price-tables", {"key": "llm", "name": "What models cost"})
    for prices in (TOKENS, TOKENS[1:]):
        _made(api, "price-tables/llm/versions", {"prices": prices, "source": "hand"})
        if prices is TOKENS:
            _made(api, "price-tables/llm/versions/1/activate", {})
    calls = {"key": "calls", "event_type": "call", "aggregation": "sum", "property": "tokens"}
    _made(api, "meters", calls | {"dimensions": ["model"], "unit": "call"})
    cost = {"key": "cost", "event_type": "llm", "aggregation": "sum", "price_table": "llm"}
    _made(api, "meters", cost)
    plan = {"key": "pro", "name": "Pro", "fee": 2_000, "activate": True, "seats": SEATS}
    first = _made(api, "plans", plan | {"entitlements": [CALLS]})["version"]
    second = {"fee": 3_000, "seats": SEATS, "entitlements": [CALLS]}
    target = _made(api, "plans/pro/versions", second | {"activate": True})
    drafted = _made(api, "plans/pro/versions", second)
    large = {"key": "large", "name": "Large", "fee": 9_000, "activate": True, "family": "big"}
    _made(api, "plans", large | {"entitlements": [CALLS]})
    return first["id"], target["id"], drafted["id"]


def _subscribe(api: Api, customer: str, *, now: datetime, **more: str) -> Subscription:
    asked = {"customer": customer, "plan": "pro", "start_at": (now - 40 * DAY).isoformat()}
    made = _made(api, "subscriptions", asked | more)
    return Subscription.objects.get(id=ids.decode("sub", made["id"]))


def _use(customer: Customer, *, now: datetime) -> str:
    """Usage of the period that is over and of the one that is not, and an open hold; an event."""
    meter = Meter.objects.get(key="calls")
    report(customer, meter, 500, at=now - 20 * DAY, properties={"model": "m-1"})
    event = report(customer, meter, 5, at=now - DAY / 24, properties={"model": "m-1"})
    roll_up(limit=100)
    open_hold(customer, meter, 1, at=now)
    return correcting.public_id(event)


def _give(api: Api, versions: tuple[str, str, str], *, now: datetime) -> dict[str, str]:
    """What is the customer's own, by the name of its parameter."""
    until = (now + 9 * DAY).isoformat()
    _made(api, "coupons", {"code": "spring", "name": "Spring", "percent": "12.5", "periods": 3})
    _made(api, "coupons", {"code": "autumn", "name": "Autumn", "amounts": {"usd": 100}})
    tried = {"customers": ["acme"], "event_type": "call", "mode": "add", "reason": "was down"}
    tried |= {"from": (now - 9 * DAY).isoformat(), "to": (now - 8 * DAY).isoformat()}
    past = {"start_at": (now - 90 * DAY).isoformat(), "end_at": now.isoformat()}
    asked = {
        "backfill": ("backfills", tried),
        "credit": ("credits", {"customer": "acme", "amount": 5, "kind": "paid"}),
        "grant": ("grants", {"customer": "acme", "meter": "calls", "quantity": 5}),
        "redemption": ("customers/acme/coupons", {"code": "spring"}),
        "override": (
            "customers/acme/overrides",
            {"meter": "calls", "included": 20, "ends_at": until},
        ),
        "member": ("members", {"customer": "acme", "email": "ada@acme.example"}),
        "migration": ("plan-migrations", {"source": versions[0], "target": versions[1]}),
        "simulation": ("price-simulations", {"version": versions[1], **past}),
    }
    found = {name: _made(api, path, body)["id"] for name, (path, body) in asked.items()}
    waiting = quarantined(first_at=now, last_at=now)
    return found | {"quarantined": waiting.public_id}


def _pay(api: Api) -> dict[str, str]:
    """Money of the customer's, by the name of its parameter."""
    paid = {"customer": "acme", "amount": 700, "reference": "wire 7"}
    asked = {
        "wallet": ("wallets/top-up", paid),
        "session": ("checkout-sessions", {"customer": "initech", "plan": "pro"}),
    }
    found = {name: _made(api, path, body)["id"] for name, (path, body) in asked.items()}
    terms = {"threshold": 1_000, "amount": 2_000, "monthly_cap": 5_000}
    for path, body in (("auto-top-up", terms), ("spend-limit", {"amount": 900_000})):
        answer = api.call("PUT", f"customers/acme/{path}", body)
        assert answer.status_code == 200, answer.content
    return found


def _deny(customer: Customer, *, now: datetime) -> str:
    key = UUID(int=7)
    remedies = [{"action": "upgrade", "plan": "large", "would_admit": True}]
    problem = {"detail": "All is used.", "requested": 9, "max_admissible": 4, "remedies": remedies}
    Denial.objects.create(
        customer_id=customer.id,
        id=key,
        code="quota_exhausted",
        meter="calls",
        first_at=now,
        last_at=now,
        requested=9,
        problem=problem | {"balances": []},
    )
    return ids.encode_owned("dec", customer_id=customer.id, key=key)
