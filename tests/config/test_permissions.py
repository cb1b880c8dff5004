"""Who may call what: every endpoint under /api/v1/ that Django answers is listed here.

A new endpoint fails `test_every_endpoint_is_listed` until it says who may call it; the other
tests then try it with every wrong credential.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.api.views import ManagementView
from accounts.domain import ids
from accounts.domain.keys import KeyKind, NewKey, new_key
from accounts.domain.scopes import ADMIN, SCOPES, allows
from accounts.models import AuditEntry, IdempotentRequest
from accounts.operations.keys import revoke_api_key, revoke_operator_key
from metering.models import Denial
from tests.factories.accounts import NOW, Api, a_gateway, an_api_key, an_operator_key
from tests.factories.metering import make_meter, report

PUBLIC = "public"  # answers anybody
SIGNED = "signed"  # verifies a signature of its own
CUSTOMER = "customer"  # a customer's own key
# "METHOD path" -> a scope (operators), or one of the words above; both: "scope customer".
ENDPOINTS: dict[str, str] = {
    "GET openapi.json": PUBLIC,
    "GET customers": "customers:read",
    "POST customers": "customers:write",
    "GET customers/<str:reference>": "customers:read",
    "PATCH customers/<str:reference>": "customers:write",
    "POST customers/<str:reference>/suspend": "customers:write",
    "POST customers/<str:reference>/resume": "customers:write",
    "POST customers/<str:reference>/erase": ADMIN,
    "GET customers/<str:reference>/export": ADMIN,
    "GET members": "customers:read",
    "POST members": "customers:write",
    "GET members/<str:member>": "customers:read",
    "POST members/<str:member>/deactivate": "customers:write",
    "POST members/<str:member>/invite": "customers:write",
    "GET api-keys": "customers:read",
    "POST api-keys": "keys:write",
    "GET api-keys/<str:key>": "customers:read",
    "POST api-keys/<str:key>/rotate": "keys:write",
    "POST api-keys/<str:key>/revoke": "keys:write",
    "GET gateways": "gateways:read",
    "POST gateways": "gateways:write",
    "GET gateways/<str:gateway>": "gateways:read",
    "PUT gateways/<str:gateway>/routes": "gateways:write",
    "POST gateways/<str:gateway>/disable": "gateways:write",
    "GET gateways/<str:gateway>/keys": "gateways:read",
    "POST gateways/<str:gateway>/keys": "gateways:write",
    "POST gateways/<str:gateway>/keys/<str:key>/rotate": "gateways:write",
    "POST gateways/<str:gateway>/keys/<str:key>/revoke": "gateways:write",
    "GET operator-keys": ADMIN,
    "POST operator-keys": ADMIN,
    "GET operator-keys/<str:key>": ADMIN,
    "POST operator-keys/<str:key>/rotate": ADMIN,
    "POST operator-keys/<str:key>/revoke": ADMIN,
    "GET audit-entries": ADMIN,
    "GET me": CUSTOMER,
    "GET me/api-keys": CUSTOMER,
    "GET me/api-keys/<str:key>": CUSTOMER,
    "GET meters": "meters:read",
    "POST meters": "meters:write",
    "GET meters/<str:reference>": "meters:read",
    "POST meters/<str:reference>/archive": "meters:write",
    "GET meters/<str:reference>/versions": "meters:read",
    "POST meters/<str:reference>/versions": "meters:write",
    "GET price-tables": "meters:read",
    "POST price-tables": "meters:write",
    "GET price-tables/<str:key>": "meters:read",
    "GET price-tables/<str:key>/versions": "meters:read",
    "POST price-tables/<str:key>/versions": "meters:write",
    "GET price-tables/<str:key>/versions/<str:number>/prices": "meters:read",
    "GET price-tables/<str:key>/versions/<str:number>/diff": "meters:read",
    "POST price-tables/<str:key>/versions/<str:number>/activate": "meters:write",
    "GET grants": "customers:read",
    "POST grants": "grants:write",
    "POST grants/<str:grant>/void": "grants:write",
    "GET usage": "reports:read",
    "GET customers/<str:reference>/entitlements": "customers:read",
    "GET events": "events:read",
    "GET events/export": "events:read",
    "GET events/<str:event>": "events:read customer",
    "POST events/<str:event>/amend": "events:write",
    "POST events/<str:event>/void": "events:write",
    "GET backfills": "events:read",
    "POST backfills": "events:write",
    "GET backfills/<str:backfill>": "events:read",
    "POST backfills/<str:backfill>/events": "events:write",
    "POST backfills/<str:backfill>/close": "events:write",
    "POST backfills/<str:backfill>/revert": "events:write",
    "POST backfills/<str:backfill>/preview": "events:write",
    "GET quarantine": "events:read",
    "POST quarantine/redrive": "events:write",
    "POST quarantine/discard": "events:write",
    "GET decisions": "events:read",
    "GET decisions/<str:decision>": "events:read customer",
    "GET me/events/export": CUSTOMER,
    "GET me/usage": CUSTOMER,
    "GET me/quarantine": CUSTOMER,
    "GET me/entitlements": CUSTOMER,
    "GET plans": "plans:read",
    "POST plans": "plans:write",
    "GET plans/<str:plan>": "plans:read",
    "POST plans/<str:plan>/archive": "plans:write",
    "GET plans/<str:plan>/versions": "plans:read",
    "POST plans/<str:plan>/versions": "plans:write",
    "GET plans/<str:plan>/versions/<str:version>": "plans:read",
    "POST plans/<str:plan>/versions/<str:version>/activate": "plans:write",
    "GET price-simulations": "reports:read",
    "POST price-simulations": "reports:read",
    "GET price-simulations/<str:simulation>": "reports:read",
    "GET price-simulations/<str:simulation>/customers": "reports:read",
    "POST price-simulations/<str:simulation>/stop": "reports:read",
    "GET plan-migrations": "subscriptions:read",
    "POST plan-migrations": "subscriptions:write",
    "POST plan-migrations/preview": "subscriptions:read",
    "GET plan-migrations/<str:migration>": "subscriptions:read",
    "GET plan-migrations/<str:migration>/moves": "subscriptions:read",
    "POST plan-migrations/<str:migration>/revert": "subscriptions:write",
    "GET subscriptions": "subscriptions:read",
    "POST subscriptions": "subscriptions:write",
    "GET subscriptions/<str:subscription>": "subscriptions:read",
    "POST subscriptions/<str:subscription>/change": "subscriptions:write",
    "POST subscriptions/<str:subscription>/change/preview": "subscriptions:read",
    "POST subscriptions/<str:subscription>/pause": "subscriptions:write",
    "POST subscriptions/<str:subscription>/resume": "subscriptions:write",
    "POST subscriptions/<str:subscription>/cancel": "subscriptions:write",
    "POST subscriptions/<str:subscription>/billing-threshold": "subscriptions:write",
    "POST subscriptions/<str:subscription>/seats": "subscriptions:write",
    "POST subscriptions/<str:subscription>/keep": "subscriptions:write",
    "GET invoices": "invoices:read",
    "GET invoices/<str:invoice>": "invoices:read",
    "GET invoices/<str:invoice>/explanation": "invoices:read",
    "GET invoices/<str:invoice>/pdf": "invoices:read",
    "GET invoices/<str:invoice>/page": "invoices:read",
    "GET customers/<str:reference>/billing-details": "customers:read",
    "PATCH customers/<str:reference>/billing-details": "customers:write",
    "GET me/billing-details": CUSTOMER,
    "PATCH me/billing-details": CUSTOMER,
    "POST invoices/<str:invoice>/void": "invoices:write",
    "POST invoices/<str:invoice>/mark-uncollectible": "invoices:write",
    "POST invoices/<str:invoice>/mark-paid": "invoices:write",
    "GET invoices/<str:invoice>/credit-notes": "invoices:read",
    "POST invoices/<str:invoice>/credit-notes": "invoices:write",
    "GET customers/<str:reference>/top-ups": "invoices:read",
    "POST customers/<str:reference>/top-ups": "invoices:write",
    "POST customers/<str:reference>/top-ups/<str:top_up>/cancel": "invoices:write",
    "GET customers/<str:reference>/auto-top-up": "invoices:read",
    "PUT customers/<str:reference>/auto-top-up": "invoices:write",
    "DELETE customers/<str:reference>/auto-top-up": "invoices:write",
    "GET me/top-ups": CUSTOMER,
    "GET me/auto-top-up": CUSTOMER,
    "PUT me/auto-top-up": CUSTOMER,
    "DELETE me/auto-top-up": CUSTOMER,
    "GET wallets": "invoices:read",
    "POST wallets/top-up": "invoices:write",
    "GET wallets/<str:wallet>": "invoices:read",
    "GET credits": "invoices:read",
    "POST credits": "invoices:write",
    "GET credits/<str:credit>": "invoices:read",
    "POST credits/<str:credit>/end": "invoices:write",
    "GET ledger-postings": "reports:read",
    "GET checkout-sessions": "subscriptions:read",
    "POST checkout-sessions": "subscriptions:write",
    "GET checkout-sessions/<str:session>": "subscriptions:read",
    "GET customers/<str:reference>/invoice-preview": "invoices:read",
    "GET customers/<str:reference>/state": "customers:read",
    "GET customers/<str:reference>/spend-limit": "customers:read",
    "PUT customers/<str:reference>/spend-limit": "subscriptions:write",
    "DELETE customers/<str:reference>/spend-limit": "subscriptions:write",
    "GET coupons": "plans:read",
    "POST coupons": "plans:write",
    "GET coupons/<str:code>": "plans:read",
    "POST coupons/<str:code>/archive": "plans:write",
    "GET customers/<str:reference>/coupons": "subscriptions:read",
    "POST customers/<str:reference>/coupons": "subscriptions:write",
    "POST customers/<str:reference>/coupons/<str:redemption>/end": "subscriptions:write",
    "GET customers/<str:reference>/overrides": "subscriptions:read",
    "POST customers/<str:reference>/overrides": "subscriptions:write",
    "GET customers/<str:reference>/overrides/<str:override>": "subscriptions:read",
    "POST customers/<str:reference>/overrides/<str:override>/end": "subscriptions:write",
    "GET reports/usage.csv": "reports:read",
    "GET reports/invoice-lines.csv": "reports:read",
    "GET me/state": CUSTOMER,
    "GET me/spend-limit": CUSTOMER,
    "PUT me/spend-limit": CUSTOMER,
    "POST stripe/webhook": SIGNED,
}
GUARDED = {name: who for name, who in ENDPOINTS.items() if who not in {PUBLIC, SIGNED}}
PREFIX = "api/v1/"
METHODS = ("get", "post", "put", "patch", "delete")
each_endpoint = pytest.mark.parametrize("endpoint", list(GUARDED))


def _patterns(entries: list[Any], prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for entry in entries:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from _patterns(entry.url_patterns, route)
        else:
            yield route, entry


def _views() -> Iterator[tuple[str, Any]]:
    for route, pattern in _patterns(get_resolver().url_patterns):
        if route.startswith(PREFIX):
            view = getattr(pattern.callback, "view_class", None) or getattr(
                pattern.callback, "cls", None
            )
            methods = METHODS if view else ("get",)
            for method in methods:
                if view is None or hasattr(view, method):
                    yield f"{method.upper()} {route.removeprefix(PREFIX)}", view


def _call(api: Api, endpoint: str) -> Any:
    method, _, route = endpoint.partition(" ")
    address = re.sub(r"<[^>]+>", "cus_0000000000000", route)
    return api.call(method, address, {} if method != "GET" else None, Idempotency_Key="a")


def _refused(api: Api, endpoint: str, status: int, code: str) -> None:
    before = (AuditEntry.objects.count(), IdempotentRequest.objects.count())
    answer = _call(api, endpoint)
    assert (answer.status_code, answer.json()["code"]) == (status, code), endpoint
    assert answer["Content-Type"] == "application/problem+json"
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)
    assert (AuditEntry.objects.count(), IdempotentRequest.objects.count()) == before


def test_every_endpoint_is_listed() -> None:
    found = dict(_views())
    assert sorted(found) == sorted(ENDPOINTS), "list the endpoint above: who may call it?"
    for name, view in found.items():
        if name in GUARDED:
            assert issubclass(view, ManagementView), name


@each_endpoint
@pytest.mark.django_db
def test_without_a_good_key_it_is_401(endpoint: str) -> None:
    _refused(Api(), endpoint, 401, "key_missing")
    _refused(Api(Authorization="Bearer nonsense"), endpoint, 401, "key_malformed")
    _refused(Api(Authorization="Basic YTpi"), endpoint, 401, "key_malformed")
    past = NOW - timedelta(days=2)
    if GUARDED[endpoint] == CUSTOMER:
        key, made = an_api_key(now=past)
        _, expired = an_api_key(now=past, expires_at=NOW - timedelta(days=1))
        revoke_api_key(key.id, actor="system", now=NOW)
    else:
        operator_key, made = an_operator_key(now=past)
        _, expired = an_operator_key(now=past, expires_at=NOW - timedelta(days=1))
        revoke_operator_key(operator_key.id, actor="system", now=NOW)
    _refused(Api(made), endpoint, 401, "key_revoked")
    _refused(Api(expired), endpoint, 401, "key_expired")
    _refused(Api(_unknown()), endpoint, 401, "key_unknown")


@each_endpoint
@pytest.mark.django_db
def test_with_the_wrong_kind_of_key_it_is_403(endpoint: str) -> None:
    who = GUARDED[endpoint].split()
    _refused(Api(a_gateway()[1]), endpoint, 403, "wrong_kind_of_key")
    if CUSTOMER not in who:
        _refused(Api(an_api_key()[1]), endpoint, 403, "wrong_kind_of_key")
    if who == [CUSTOMER]:
        _refused(Api(an_operator_key()[1]), endpoint, 403, "wrong_kind_of_key")


@each_endpoint
@pytest.mark.django_db
def test_without_the_scope_it_is_403_and_with_it_it_is_not(endpoint: str) -> None:
    needed = GUARDED[endpoint].split()[0]
    if needed == CUSTOMER:
        assert _call(Api(an_api_key()[1]), endpoint).status_code not in {401, 403}
        return
    others = [scope for scope in SCOPES if not allows([scope], needed)]
    if others:
        _refused(Api(an_operator_key(*others)[1]), endpoint, 403, "scope_missing")
    assert _call(Api(an_operator_key(needed)[1]), endpoint).status_code not in {401, 403}


# Where a customer's key names a thing by its id: one of the owner's, and the owner's key.
def _api_key() -> tuple[str, NewKey]:
    key, made = an_api_key()
    return f"me/api-keys/{key.public_id}", made


def _decision() -> tuple[str, NewKey]:
    key, made = an_api_key()
    denial = Denial.objects.create(
        customer_id=key.customer_id, id=UUID(int=7), code="no_subscription", first_at=NOW,
        last_at=NOW, problem={},
    )  # fmt: skip
    return f"decisions/{ids.encode_owned('dec', customer_id=key.customer_id, key=denial.id)}", made


def _event() -> tuple[str, NewKey]:
    key, made = an_api_key()
    event = report(key.customer, make_meter(), 1)
    return f"events/{ids.encode_owned('evt', customer_id=key.customer_id, key=event.id)}", made


OWNED: dict[str, Callable[[], tuple[str, NewKey]]] = {
    "GET me/api-keys/<str:key>": _api_key,
    "GET decisions/<str:decision>": _decision,
    "GET events/<str:event>": _event,
}


def test_every_endpoint_of_customers_with_an_id_is_tried_with_foreign_ids() -> None:
    named = {name for name, who in GUARDED.items() if CUSTOMER in who.split() and "<" in name}
    assert named == set(OWNED)


@pytest.mark.parametrize("endpoint", list(OWNED))
@pytest.mark.django_db
def test_what_is_somebody_elses_does_not_exist(endpoint: str) -> None:
    method = endpoint.partition(" ")[0]
    address, owner = OWNED[endpoint]()
    assert Api(owner).call(method, address).status_code == 200
    answer = Api(an_api_key()[1]).call(method, address)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def _unknown() -> NewKey:
    return new_key(KeyKind.OPERATOR, entropy=bytes(range(32)))
