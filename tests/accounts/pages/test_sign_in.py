"""Signing in, out, and passwords."""

from __future__ import annotations

import re

import pytest
from django.conf import settings
from django.core import mail
from django.test import Client

from accounts.models import AuditEntry
from accounts.operations.members import deactivate_member
from tests.factories.accounts import ACTOR, NOW, PASSWORD, a_customer, a_member

pytestmark = pytest.mark.django_db


def sign_in(client: Client, email: str, password: str = PASSWORD, **more: str) -> int:
    given = {"username": email, "password": password, **more}
    return client.post("/sign-in", given).status_code


def test_everybody_is_led_to_where_they_begin(client: Client) -> None:
    assert client.get("/")["Location"] == "/sign-in"
    member, staff = a_member(a_customer()), a_member(is_staff=True)
    client.force_login(member, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/")["Location"] == "/portal"
    client.force_login(staff, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/")["Location"] == "/admin/"


def test_signing_in_and_out(client: Client) -> None:
    member = a_member(a_customer(), email="ada@example.com")
    page = client.get("/sign-in").content.decode()
    assert "<script" not in page
    assert "style=" not in page
    answer = client.post("/sign-in", {"username": "Ada@Example.com", "password": PASSWORD})
    assert answer["Location"] == "/portal"
    assert member.email in client.get("/change-password").content.decode()
    assert client.get("/sign-out").status_code == 405
    assert client.post("/sign-out")["Location"] == "/sign-in"
    assert client.get("/change-password").status_code == 302


def test_where_to_go_on_is_ours_only(client: Client) -> None:
    a_member(a_customer(), email="ada@example.com")
    given = {"username": "ada@example.com", "password": PASSWORD}
    for wanted, found in (
        ("/portal/invoices", "/portal/invoices"),
        ("https://evil.example", "/portal"),
    ):
        answer = client.post("/sign-in", {**given, "next": wanted})
        assert answer["Location"] == found


def test_the_wrong_password_and_nobody_look_the_same(client: Client) -> None:
    a_member(a_customer(), email="ada@example.com")
    pages = [
        client.post("/sign-in", {"username": email, "password": "wrong"})
        for email in ("ada@example.com", "eve@example.com")
    ]
    assert [page.status_code for page in pages] == [200, 200]
    for page in pages:
        assert "no member with this e-mail address and password" in page.content.decode()


def test_too_many_attempts_are_locked_out_even_with_the_right_password(client: Client) -> None:
    a_member(a_customer(), email="ada@example.com")
    a_member(a_customer(), email="eve@example.com")
    for _ in range(settings.AXES_FAILURE_LIMIT):
        last = sign_in(client, "ada@example.com", "wrong")
    assert last == 429
    answer = client.post("/sign-in", {"username": "ada@example.com", "password": PASSWORD})
    assert answer.status_code == 429
    assert answer["Retry-After"] == "900"
    assert "Too many attempts" in answer.content.decode()
    assert sign_in(client, "eve@example.com") == 302


def test_who_is_shut_out_stays_out_and_open_sessions_end(client: Client) -> None:
    member = a_member(a_customer(), email="ada@example.com")
    assert sign_in(client, "ada@example.com") == 302
    deactivate_member(member.id, actor=ACTOR, now=NOW)
    assert client.get("/change-password").status_code == 302
    assert sign_in(Client(), "ada@example.com") == 200


def test_changing_the_password_ends_other_sessions_and_is_audited(client: Client) -> None:
    member = a_member(a_customer(), email="ada@example.com")
    other = Client()
    for each in (client, other):
        assert sign_in(each, "ada@example.com") == 302
    fresh = "another horse battery staple"
    given = {"old_password": PASSWORD, "new_password1": fresh, "new_password2": fresh}
    wrong = client.post("/change-password", {**given, "old_password": "wrong"})
    assert wrong.status_code == 200
    assert client.post("/change-password", given)["Location"] == "/"
    assert client.get("/change-password").status_code == 200
    assert other.get("/change-password").status_code == 302
    member.refresh_from_db()
    assert member.check_password(fresh)
    entry = AuditEntry.objects.get(action="member.password_set")
    assert entry.actor == entry.subject == member.public_id


def test_a_forgotten_password_is_set_by_a_mailed_link(client: Client) -> None:
    member = a_member(a_customer(), email="ada@example.com", password=None)
    answers = [
        client.post("/forgot-password", {"email": email}, follow=True).content.decode()
        for email in ("Ada@example.com", "eve@example.com")
    ]
    assert all("a link is on its way" in answer for answer in answers)
    assert len(mail.outbox) == 1
    assert mail.outbox[0].to == [member.email]
    link = re.search(rf"{settings.BASE_URL}(/set-password/\S+)", str(mail.outbox[0].body))
    assert link
    page = client.get(link[1], follow=True).redirect_chain[-1][0]
    weak = client.post(page, {"new_password1": "1234", "new_password2": "1234"})
    assert weak.status_code == 200
    client.post(page, {"new_password1": PASSWORD, "new_password2": PASSWORD})
    assert sign_in(client, "ada@example.com") == 302


def test_forms_need_their_token() -> None:
    client = Client(enforce_csrf_checks=True)
    answer = client.post("/sign-in", {"username": "a@example.com", "password": "x"})
    assert answer.status_code == 403
    assert "The form is out of date" in answer.content.decode()
