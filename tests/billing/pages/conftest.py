"""The portal as signed-in members see it, with a simulated Stripe beside it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.test import Client

from accounts.models import Customer, Member
from tests.billing.payments.conftest import deliver, running_simulator, simulator
from tests.factories.accounts import a_customer, a_member

__all__ = ["deliver", "running_simulator", "simulator"]


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def customer(db: None) -> Customer:
    return a_customer(name="Acme", email="ada@example.com")


@pytest.fixture
def member(customer: Customer) -> Member:
    return a_member(customer)


@pytest.fixture
def browser(member: Member) -> Client:
    return signed_in(member)


def signed_in(member: Member) -> Client:
    """A browser in which the member is signed in, and whose forms need their token."""
    client = Client()
    client.force_login(member, backend="django.contrib.auth.backends.ModelBackend")
    return client
