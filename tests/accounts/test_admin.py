"""The admin of accounts: everything goes through operations, and is audited."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.test import Client

from accounts.admin import OperatedAdmin, ReadOnlyAdmin
from accounts.domain.routes import Route
from accounts.models import (
    ApiKey,
    AuditEntry,
    Customer,
    CustomerVersion,
    Gateway,
    GatewayKey,
    Member,
    OperatorKey,
)
from accounts.operations.gateways import routes_of
from tests.factories.accounts import (
    a_customer,
    a_gateway,
    a_member,
    an_api_key,
    an_erased_customer,
    an_operator_key,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff() -> Member:
    return a_member(is_staff=True)


@pytest.fixture
def pages(staff: Member) -> Client:
    client = Client()
    client.force_login(staff, backend="django.contrib.auth.backends.ModelBackend")
    return client


def save(pages: Client, path: str, **given: Any) -> str:
    """Send a form of the admin and return the page it leads to."""
    answer = pages.post(f"/admin/accounts/{path}/", given, follow=True)
    assert answer.redirect_chain, answer.context["errors"]
    return answer.content.decode()


def act(pages: Client, path: str, action: str, *rows: Any) -> str:
    given = {"action": action, "_selected_action": [row.pk for row in rows]}
    return pages.post(f"/admin/accounts/{path}/", given, follow=True).content.decode()


def last_entry(staff: Member) -> AuditEntry:
    entry = AuditEntry.objects.order_by("-at", "-id").first()
    assert entry is not None
    assert entry.actor == staff.public_id
    return entry


def test_lists_are_named_in_english(pages: Client) -> None:
    assert "Audit entries" in pages.get("/admin/").content.decode()


def test_every_page_opens(pages: Client) -> None:
    a_customer(), a_gateway(), an_api_key(), an_operator_key()
    for model in admin.site._registry:
        if model._meta.app_label == "accounts":
            path = f"/admin/accounts/{model._meta.model_name}/"
            assert pages.get(path).status_code == 200, path
            assert pages.get(path, {"q": "x"}).status_code == 200, path
            assert pages.get(f"{path}add/").status_code in {200, 403}, path


def test_nothing_is_deleted_in_accounts() -> None:
    for model, page in admin.site._registry.items():
        if model._meta.app_label == "accounts":
            assert isinstance(page, OperatedAdmin | ReadOnlyAdmin)
            assert page.has_delete_permission(None) is False  # type: ignore[arg-type]


def test_customers_are_made_changed_suspended_and_resumed(pages: Client, staff: Member) -> None:
    save(
        pages, "customer/add", name="Acme", email="", currency="usd", metadata="{}", external_id=""
    )
    customer = Customer.objects.get(external_id=None)
    assert CustomerVersion.objects.filter(customer=customer).exists()
    assert last_entry(staff).action == "customer.created"
    given = {"name": "Acme 2", "email": "", "metadata": "{}", "external_id": "acme"}
    save(pages, f"customer/{customer.pk}/change", **given)
    assert set(last_entry(staff).changes) == {"name", "external_id"}
    assert "begin with cus_" in save(
        pages, f"customer/{customer.pk}/change", **{**given, "external_id": "cus_1"}
    )
    assert Customer.objects.get().external_id == "acme"
    act(pages, "customer", "suspend", customer)
    assert last_entry(staff).action == "customer.suspended"
    act(pages, "customer", "resume", customer)
    assert last_entry(staff).action == "customer.resumed"


def test_whoever_was_erased_is_not_resumed_and_gets_no_key(pages: Client) -> None:
    erased, other = an_erased_customer(), a_customer()
    act(pages, "customer", "suspend", other)
    page = act(pages, "customer", "resume", other, erased)
    assert f"Not for {erased.public_id}: The customer was erased" in page
    assert "Done for 1." in page
    other.refresh_from_db()
    assert other.suspended_at is None
    page = save(pages, "apikey/add", customer=erased.pk, name="new")
    assert "The customer was erased" in page
    assert not ApiKey.objects.exists()


def test_members_are_invited_and_changed(pages: Client, staff: Member) -> None:
    customer = a_customer()
    given = {"email": "ada@example.com", "name": "", "role": "member"}
    page = save(pages, "member/add", customer=customer.pk, **given)
    assert "/set-password/" in page
    member = Member.objects.get(email="ada@example.com")
    assert member.customer == customer
    assert not member.has_usable_password()
    save(pages, f"member/{member.pk}/change", **{**given, "name": "Ada"})
    assert last_entry(staff).changes == {"name": ["", "Ada"], "is_active": [True, False]}
    refused = save(pages, f"member/{member.pk}/change", is_staff="on", **given)
    assert "cannot be one of the operator" in refused
    save(pages, f"member/{member.pk}/change", is_active="on", **given)
    assert "/set-password/" in act(pages, "member", "make_link", member)
    assert last_entry(staff).action == "member.invited"


def test_keys_are_shown_once_and_revoked(pages: Client, staff: Member) -> None:
    customer, (gateway, _) = a_customer(), a_gateway()
    times = {"expires_at_0": "", "expires_at_1": ""}
    assert "fb_key_" in save(pages, "apikey/add", customer=customer.pk, name="x", **times)
    assert "fb_gw_" in save(pages, "gatewaykey/add", gateway=gateway.pk, name="x", **times)
    page = save(pages, "operatorkey/add", name="x", scopes=["plans:read"], **times)
    assert "fb_op_" in page
    rows: dict[str, Any] = {
        "apikey": ApiKey.objects.get(),
        "gatewaykey": GatewayKey.objects.get(name="x"),
        "operatorkey": OperatorKey.objects.get(),
    }
    for path, row in rows.items():
        assert row.name == "x"
        assert "fb_op_" not in pages.get(f"/admin/accounts/{path}/").content.decode().replace(
            row.prefix, ""
        )
        act(pages, path, "revoke", row)
        row.refresh_from_db()
        assert row.revoked_at
        assert last_entry(staff).action.endswith("revoked")
    past = {"expires_at_0": "2020-01-01", "expires_at_1": "00:00:00"}
    assert "expired before" in save(pages, "apikey/add", customer=customer.pk, name="y", **past)
    assert ApiKey.objects.count() == 1


def test_gateways_and_their_routes(pages: Client, staff: Member) -> None:
    def form(*routes: Route, before: int = 0) -> dict[str, Any]:
        made: dict[str, Any] = {"routes-TOTAL_FORMS": len(routes), "routes-INITIAL_FORMS": before}
        for index, route in enumerate(routes):
            for name in ("path", "meter", "method", "quantity", "mode"):
                made[f"routes-{index}-{name}"] = getattr(route, name)
            made[f"routes-{index}-position"] = 10 - index
        return made

    one, other = Route("/a", "api.calls"), Route("/b", "api.calls", "GET", 2, "peek")
    page = save(pages, "gateway/add", name="edge", kind="nginx", **form(one))
    assert "fb_gw_" in page
    gateway = Gateway.objects.get()
    assert routes_of(gateway) == [one]
    save(pages, f"gateway/{gateway.pk}/change", **form(one, other))
    assert routes_of(gateway) == [other, one]
    assert last_entry(staff).action == "gateway.routes_changed"
    refused = save(pages, f"gateway/{gateway.pk}/change", **form(Route("nowhere", "m")))
    assert "A path begins with /" in refused
    assert routes_of(gateway) == [other, one]
    act(pages, "gateway", "disable", gateway)
    assert last_entry(staff).action == "gateway.disabled"


def test_the_audit_is_read_only(pages: Client) -> None:
    a_customer()
    entry = AuditEntry.objects.first()
    assert entry is not None
    assert pages.get("/admin/accounts/auditentry/add/").status_code == 403
    assert pages.post(f"/admin/accounts/auditentry/{entry.pk}/change/", {}).status_code == 403
    assert pages.get(f"/admin/accounts/auditentry/{entry.pk}/change/").status_code == 200


def test_members_of_customers_do_not_enter() -> None:
    client = Client()
    member = a_member(a_customer())
    client.force_login(member, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/admin/accounts/customer/").status_code == 302
