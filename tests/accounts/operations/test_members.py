"""Creating members, inviting, changing and shutting them out."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.models import AuditEntry, Member
from accounts.operations import members
from tests.factories.accounts import ACTOR, NOW, PASSWORD, a_customer, a_member

pytestmark = pytest.mark.django_db


def test_addresses_are_one_in_any_case() -> None:
    member = a_member(a_customer(), email=" Ada@Example.com ")
    assert member.email == "ada@example.com"
    assert member.check_password(PASSWORD)
    with pytest.raises(members.EmailTaken):
        a_member(email="ADA@example.com")
    assert Member.objects.count() == 1


def test_without_a_password_nobody_signs_in() -> None:
    member = a_member(a_customer(), password=None)
    assert not member.has_usable_password()
    assert AuditEntry.objects.get(action="member.created").changes["invited"] is True
    assert "/set-password/" in members.password_link(member)


@pytest.mark.parametrize("password", ["short", "password1234"])
def test_weak_passwords_are_refused(password: str) -> None:
    with pytest.raises(members.PasswordWeak):
        a_member(password=password)
    assert not Member.objects.exists()


def test_staff_belong_to_no_customer() -> None:
    staff = a_member(is_staff=True)
    assert staff.is_superuser
    with pytest.raises(members.StaffOfNobody):
        a_member(a_customer(), is_staff=True)
    of_customer = a_member(a_customer())
    with pytest.raises(members.StaffOfNobody):
        members.change_member(of_customer.id, changes={"is_staff": True}, actor=ACTOR, now=NOW)
    of_customer.refresh_from_db()
    assert not of_customer.is_staff


def test_changes_are_audited_once() -> None:
    member = a_member(a_customer(), name="Ada")
    for _ in range(2):
        members.change_member(
            member.id, changes={"name": "Ada L.", "role": "owner"}, actor=ACTOR, now=NOW
        )
    entry = AuditEntry.objects.get(action="member.changed")
    assert entry.changes == {"name": ["Ada", "Ada L."], "role": ["member", "owner"]}
    other = a_member()
    with pytest.raises(members.EmailTaken):
        members.change_member(member.id, changes={"email": other.email}, actor=ACTOR, now=NOW)


def test_shutting_out_twice_is_once() -> None:
    member = a_member(a_customer())
    for _ in range(2):
        assert not members.deactivate_member(member.id, actor=ACTOR, now=NOW).is_active
    assert AuditEntry.objects.filter(action="member.deactivated").count() == 1


def test_setting_a_password_ends_the_link() -> None:
    member = a_member(a_customer(), password=None)
    link = members.password_link(member)
    changed = members.set_password(member.id, password=PASSWORD, actor=member.public_id, now=NOW)
    assert changed.check_password(PASSWORD)
    assert members.password_link(changed) != link
    with pytest.raises(members.PasswordWeak):
        members.set_password(member.id, password="1234", actor=ACTOR, now=NOW)
    changed.refresh_from_db()
    assert changed.check_password(PASSWORD)
    assert AuditEntry.objects.filter(action="member.password_set").count() == 1


def test_members_that_are_not_there() -> None:
    operations: list[tuple[Any, dict[str, Any]]] = [
        (members.deactivate_member, {}),
        (members.note_invitation, {}),
        (members.set_password, {"password": PASSWORD}),
        (members.change_member, {"changes": {"name": "x"}}),
    ]
    for operation, given in operations:
        with pytest.raises(members.MemberUnknown):
            operation(1, **given, actor=ACTOR, now=NOW)


def test_an_invitation_is_audited() -> None:
    member = a_member(a_customer())
    members.note_invitation(member.id, actor=ACTOR, now=NOW)
    assert AuditEntry.objects.get(action="member.invited").subject == member.public_id
