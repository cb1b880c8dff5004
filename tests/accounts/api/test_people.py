"""Members, operator keys and the audit over HTTP."""

from __future__ import annotations

import re

import pytest
from django.conf import settings
from django.test import Client

from accounts.models import Member, OperatorKey
from tests.factories.accounts import PASSWORD, Api, a_customer, a_member, operator

pytestmark = pytest.mark.django_db


@pytest.fixture
def api() -> Api:
    return operator()


def test_an_invited_member_gets_a_link_and_signs_in(api: Api) -> None:
    customer = a_customer()
    body = {"customer": customer.public_id, "email": "Ada@example.com", "role": "owner"}
    answer = api.post("members", body)
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert made["email"] == "ada@example.com"
    assert made["password_link"].startswith(f"{settings.BASE_URL}/set-password/mem") is False
    client = Client()
    path = made["password_link"].removeprefix(settings.BASE_URL)
    form = client.get(path, follow=True)
    assert form.status_code == 200
    page = form.redirect_chain[-1][0]
    given = {"new_password1": PASSWORD, "new_password2": PASSWORD}
    assert client.post(page, given)["Location"] == "/sign-in"
    signed_in = client.post("/sign-in", {"username": "ADA@example.com", "password": PASSWORD})
    assert signed_in["Location"] == "/portal"
    assert "too old" in Client().get(path, follow=True).content.decode()


def test_a_password_may_come_with_the_member(api: Api) -> None:
    customer = a_customer()
    body = {"customer": customer.public_id, "email": "a@example.com", "password": PASSWORD}
    assert api.post("members", body).json()["password_link"] is None
    assert Member.objects.get().check_password(PASSWORD)
    weak = api.post("members", {**body, "email": "b@example.com", "password": "1234"})
    assert (weak.status_code, weak.json()["param"]) == (422, "password")
    taken = api.post("members", body)
    assert (taken.status_code, taken.json()["param"]) == (409, "email")
    assert Member.objects.count() == 1


def test_members_are_listed_invited_again_and_shut_out(api: Api) -> None:
    customer = a_customer()
    member = a_member(customer)
    staff = a_member(is_staff=True)
    assert [row["id"] for row in api.get("members").json()["data"]] == [member.public_id]
    listed = api.get("members", customer=customer.public_id).json()["data"]
    assert listed == [api.get(f"members/{member.public_id}").json()]
    path = f"members/{member.public_id}"
    assert re.search("/set-password/", api.post(f"{path}/invite").json()["password_link"])
    assert api.post(f"{path}/deactivate").json()["active"] is False
    assert api.post(f"{path}/invite").status_code == 404
    for path in (f"members/{staff.public_id}", "members/mem_0000000000000"):
        assert api.get(path).status_code == 404
        assert api.post(f"{path}/deactivate").status_code == 404
    staff.refresh_from_db()
    assert staff.is_active


def test_operator_keys_are_issued_rotated_and_revoked(api: Api) -> None:
    answer = api.post("operator-keys", {"name": "ci", "scopes": ["plans:write", "plans:write"]})
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert made["scopes"] == ["plans:write"]
    assert api.get(f"operator-keys/{made['id']}").json()["name"] == "ci"
    assert len(api.get("operator-keys").json()["data"]) == 2
    rotated = api.post(f"operator-keys/{made['id']}/rotate")
    assert rotated.json()["scopes"] == ["plans:write"]
    assert api.post(f"operator-keys/{rotated.json()['id']}/revoke").json()["revoked_at"]
    assert api.get("operator-keys/opk_0000000000000").status_code == 404


@pytest.mark.parametrize("scopes", [[], ["everything"], "admin", [["admin"]], [None]])
def test_scopes_that_are_none(api: Api, scopes: object) -> None:
    answer = api.post("operator-keys", {"name": "ci", "scopes": scopes})
    assert answer.status_code == 422
    assert answer.json()["param"].startswith("scopes")
    assert OperatorKey.objects.count() == 1


def test_the_audit_tells_who_did_what(api: Api) -> None:
    customer = api.post("customers", {"name": "Acme"}).json()["id"]
    api.post(f"customers/{customer}/suspend", {"reason": "abuse"})
    entries = api.get("audit-entries", subject=customer).json()["data"]
    assert [each["action"] for each in entries] == ["customer.suspended", "customer.created"]
    assert entries[0]["changes"] == {"reason": "abuse"}
    assert entries[0]["customer"] == customer
    assert entries[0]["actor"] == entries[1]["actor"]
    page = api.get("audit-entries", limit="1", customer=customer).json()
    rest = api.get("audit-entries", limit="1", customer=customer, cursor=page["next"]).json()
    assert [each["action"] for each in page["data"] + rest["data"]] == [
        e["action"] for e in entries
    ]
