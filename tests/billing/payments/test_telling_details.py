"""What a customer's tax depends on is told to Stripe when it changes."""

from __future__ import annotations

from datetime import datetime

import pytest
from pytest_django import Settings

from accounts.models import Customer
from billing.models import BillingDetails, StripeCustomer, StripeStep
from billing.payments import customers
from billing.payments.pushing import push_due
from billing.payments.simulator import Simulator
from tests.billing.payments.taxing import DAY, live_in, of_october
from tests.factories.billing import fresh
from tests.factories.payments import give_card

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("taxed")]


class TestTelling:
    """Address, tax status and tax id, through the step log, when they change."""

    def test_what_changes_is_told_once(
        self, simulator: Simulator, placed: Customer, now: datetime
    ) -> None:
        live_in(placed, now=now + DAY, tax_id="DE 123456789")
        assert customers.tell_changes(now=now, limit=5) == 1
        assert customers.tell_changes(now=now, limit=5) == 0
        (there,) = simulator.all("customer")
        assert (there["address"]["country"], there["address"]["postal_code"]) == ("DE", "10115")
        assert [(t["type"], t["value"]) for t in simulator.all("tax_id")] == [
            ("eu_vat", "DE123456789")
        ]
        kinds = set(StripeStep.objects.values_list("kind", flat=True))
        assert {"customer_details", "tax_id"} <= kinds

    def test_another_tax_id_takes_its_place_and_none_takes_it_away(
        self, simulator: Simulator, placed: Customer, now: datetime
    ) -> None:
        for place, tax_id in enumerate(("DE111111111", "DE222222222", "")):
            live_in(placed, now=now + (place + 1) * DAY, tax_id=tax_id)
            assert customers.tell_changes(now=now + place * DAY, limit=5) == 1
            held = [each["value"] for each in simulator.all("tax_id")]
            assert held == ([tax_id] if tax_id else [])

    def test_a_tax_id_that_stripe_does_not_take_keeps_nothing_else_back(
        self, simulator: Simulator, placed: Customer, now: datetime
    ) -> None:
        live_in(placed, now=now + DAY, tax_id="X")
        customers.tell_changes(now=now, limit=5)
        assert simulator.all("tax_id") == []
        assert simulator.all("customer")[0]["address"]["country"] == "DE"
        assert customers.tell_changes(now=now + DAY, limit=5) == 0
        invoice = of_october(placed, now)
        push_due(now=now, limit=5)
        assert fresh(invoice).tax_added == 400

    def test_who_was_at_stripe_before_is_told_once_tax_is_turned_on(
        self, simulator: Simulator, settings: Settings, customer: Customer, now: datetime
    ) -> None:
        settings.STRIPE_TAX = False
        give_card(customer, now=now)
        live_in(customer, now=now)
        assert customers.tell_changes(now=now, limit=5) == 0
        settings.STRIPE_TAX = True
        assert customers.tell_changes(now=now, limit=5) == 1
        assert simulator.all("customer")[0]["address"]["city"] == "Berlin"
        assert StripeCustomer.objects.get().told_details_at == now

    def test_what_is_erased_here_goes_there_too(
        self, simulator: Simulator, settings: Settings, placed: Customer, now: datetime
    ) -> None:
        live_in(placed, now=now + DAY, tax_id="DE123456789")
        customers.tell_changes(now=now, limit=5)
        settings.STRIPE_TAX = False
        BillingDetails.objects.all().delete()
        assert customers.tell_changes(now=now + DAY, limit=5) == 1
        assert customers.tell_changes(now=now + DAY, limit=5) == 0
        assert not any((simulator.all("customer")[0]["address"] or {}).values())
        assert simulator.all("tax_id") == []

    def test_nothing_is_told_where_stripe_computes_no_tax(
        self, simulator: Simulator, settings: Settings, placed: Customer, now: datetime
    ) -> None:
        settings.STRIPE_TAX = False
        live_in(placed, now=now + DAY, city="Potsdam")
        assert customers.tell_changes(now=now, limit=5) == 0
        assert simulator.all("customer")[0]["address"]["city"] == "Berlin"
        invoice = of_october(placed, now)
        push_due(now=now, limit=5)
        invoice.refresh_from_db()
        assert (invoice.total_with_tax, invoice.taxed_at, invoice.tax_status) == (2_000, None, "")

    def test_an_address_that_stripe_refuses_is_told_again_once_it_changes(
        self, simulator: Simulator, placed: Customer, now: datetime
    ) -> None:
        customers.tell_changes(now=now, limit=5)
        kept_before_it_was_refused_here(placed, country="XX", at=now + DAY)
        assert customers.tell_changes(now=now, limit=5) == 1
        steps = StripeStep.objects.count()
        assert customers.tell_changes(now=now + DAY, limit=5) == 0
        assert StripeStep.objects.count() == steps
        assert simulator.all("customer")[0]["address"]["country"] == "DE"
        live_in(placed, now=now + 2 * DAY, country="AT")
        assert customers.tell_changes(now=now + 2 * DAY, limit=5) == 1
        assert simulator.all("customer")[0]["address"]["country"] == "AT"

    def test_nothing_is_taxed_at_the_address_before_the_one_that_was_refused(
        self, placed: Customer, now: datetime
    ) -> None:
        customers.tell_changes(now=now, limit=5)
        kept_before_it_was_refused_here(placed, country="XX", at=now + DAY)
        customers.tell_changes(now=now, limit=5)
        invoice = of_october(placed, now)
        push_due(now=now, limit=5)
        held = fresh(invoice)
        assert (held.push, held.taxed_at) == ("quarantined", None)
        assert "Country 'XX' is unknown" in held.push_problem


def kept_before_it_was_refused_here(customer: Customer, *, country: str, at: datetime) -> None:
    BillingDetails.objects.filter(customer=customer).update(country=country, updated_at=at)
