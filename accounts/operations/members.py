"""Creating members, inviting them to set a password, shutting them out."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.tokens import default_token_generator
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from accounts.models import Member
from accounts.operations.auditing import audit


class EmailTaken(Exception):
    """Another member signs in with this e-mail address."""

    param = "email"


class PasswordWeak(Exception):
    """The password is too short, too common, or too like the member's own data."""

    param = "password"


class StaffOfNobody(Exception):
    """The operator's staff belong to no customer."""

    param = "is_staff"


class MemberUnknown(Exception):
    """No member has this id."""


def create_member(
    *,
    email: str,
    name: str = "",
    customer_id: int | None,
    role: str = Member.Role.MEMBER,
    password: str | None = None,
    is_staff: bool = False,
    actor: str,
    now: datetime,
) -> Member:
    """Create a member of a customer, or one of the operator's staff (no customer).

    Without a password the member cannot sign in until it is set by the link that
    `password_link` gives. Raises EmailTaken, PasswordWeak or StaffOfNobody.
    """
    if is_staff and customer_id is not None:
        raise StaffOfNobody("A member of a customer cannot be one of the operator's staff.")
    member = Member(
        email=email.strip().lower(), name=name, customer_id=customer_id, role=role,
        is_staff=is_staff, is_superuser=is_staff,
    )  # fmt: skip
    if password is not None:
        _check(password, member)
    member.set_password(password)
    with transaction.atomic():
        _save(member)
        audit(
            actor=actor,
            action="member.created",
            subject=member.public_id,
            customer_id=customer_id,
            changes={"email": member.email, "role": role, "invited": password is None},
            now=now,
        )
    return member


class MemberChanges(TypedDict, total=False):
    """What may be changed about a member; its customer may not."""

    name: str
    email: str
    role: str
    is_active: bool
    is_staff: bool


def change_member(member_id: int, *, changes: MemberChanges, actor: str, now: datetime) -> Member:
    """Apply the changes; what is already so is left alone and not audited.

    Raises MemberUnknown, EmailTaken or StaffOfNobody.
    """
    with transaction.atomic():
        member = _locked(member_id)
        made = {
            field: [getattr(member, field), value]
            for field, value in changes.items()
            if getattr(member, field) != value
        }
        if not made:
            return member
        for field, (_, value) in made.items():
            setattr(member, field, value)
        if member.is_staff and member.customer_id is not None:
            raise StaffOfNobody("A member of a customer cannot be one of the operator's staff.")
        member.email, member.is_superuser = member.email.lower(), member.is_staff
        _save(member)
        audit(
            actor=actor,
            action="member.changed",
            subject=member.public_id,
            customer_id=member.customer_id,
            changes=made,
            now=now,
        )
    return member


def deactivate_member(member_id: int, *, actor: str, now: datetime) -> Member:
    """Shut a member out, open sessions included; twice changes nothing. Raises MemberUnknown."""
    with transaction.atomic():
        member = _locked(member_id)
        if member.is_active:
            member.is_active = False
            member.save(update_fields=["is_active"])
            audit(
                actor=actor,
                action="member.deactivated",
                subject=member.public_id,
                customer_id=member.customer_id,
                now=now,
            )
    return member


def set_password(member_id: int, *, password: str, actor: str, now: datetime) -> Member:
    """Set a member's password; earlier links and other sessions die. Raises PasswordWeak."""
    with transaction.atomic():
        member = _locked(member_id)
        _check(password, member)
        member.set_password(password)
        member.save(update_fields=["password"])
        audit(
            actor=actor,
            action="member.password_set",
            subject=member.public_id,
            customer_id=member.customer_id,
            now=now,
        )
    return member


def note_invitation(member_id: int, *, actor: str, now: datetime) -> None:
    """Audit that somebody asked for a member's password link. Raises MemberUnknown."""
    with transaction.atomic():
        member = _locked(member_id)
        audit(
            actor=actor,
            action="member.invited",
            subject=member.public_id,
            customer_id=member.customer_id,
            now=now,
        )


def password_link(member: Member) -> str:
    """The absolute address where this member sets a password; dies when used or after three days.

    Whoever has it can take the account: show it once, to the one who asked for the member.
    """
    person = urlsafe_base64_encode(force_bytes(member.pk))
    return f"{settings.BASE_URL}/set-password/{person}/{default_token_generator.make_token(member)}"


def _check(password: str, member: Member) -> None:
    try:
        validate_password(password, member)
    except ValidationError as error:
        raise PasswordWeak(" ".join(error.messages)) from error


def _save(member: Member) -> None:
    try:
        with transaction.atomic():
            member.save()
    except IntegrityError as error:
        # The only thing about a member that may not be twice.
        raise EmailTaken("Another member has this e-mail address.") from error


def _locked(member_id: int) -> Member:
    member = Member.objects.select_for_update().filter(pk=member_id).first()
    if member is None:
        raise MemberUnknown("There is no such member.")
    return member
