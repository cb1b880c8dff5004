"""Who calls the management API in these tests."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts.models import Customer
from tests.factories.accounts import an_operator_key, bearer
from tests.factories.metering import make_customer


@pytest.fixture
def operator(db: None) -> Client:
    """An operator with every scope."""
    return Client(headers=bearer(an_operator_key()[1]))


@pytest.fixture
def customer(db: None) -> Customer:
    """The customer whose external id is `acme`."""
    return make_customer(external_id="acme")
