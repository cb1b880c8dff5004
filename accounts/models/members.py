"""People: members of customers, and the operator's staff."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models
from django.db.models.functions import Lower

from accounts.models.customers import Customer
from accounts.models.entities import Entity


class MemberAccess(BaseUserManager["Member"]):
    """Makes members the way Django's commands ask for it."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> Member:
        """Create a member; without a password it cannot sign in until one is set."""
        member = self.model(email=self.normalize_email(email).lower(), **fields)
        member.set_password(password)
        member.save(using=self._db)
        return member

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> Member:
        """Create an operator with every right in the admin."""
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class Member(Entity, AbstractBaseUser, PermissionsMixin):
    """A person who signs in: of a customer, or of the operator (no customer, staff)."""

    PREFIX: ClassVar[str] = "mem"

    class Role(models.TextChoices):
        OWNER = "owner", "Owner"
        MEMBER = "member", "Member"

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=200, blank=True)
    customer = models.ForeignKey(
        Customer, on_delete=models.CASCADE, null=True, blank=True, related_name="members"
    )
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.MEMBER)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = MemberAccess()
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints = [
            models.UniqueConstraint(Lower("email"), name="member_email_is_unique_in_any_case"),
            models.CheckConstraint(
                condition=models.Q(customer__isnull=True) | models.Q(is_staff=False),
                name="member_of_a_customer_is_not_staff",
            ),
        ]

    def __str__(self) -> str:
        return self.email
