"""Migrations 0012 of metering and 0014 of billing: plans that are published keep their currency."""

from __future__ import annotations

from importlib import import_module

import pytest
from django.db import connection

from metering.models import Offer
from tests.factories.billing import a_plan


@pytest.mark.django_db
def test_published_plans_are_in_the_currency_they_are_sold_in() -> None:
    a_plan(key="dollars")
    a_plan(key="euros", currency="eur")
    kept = import_module("metering.migrations.0012_offers_by_currency")
    with connection.cursor() as cursor:
        cursor.execute(kept.KEEP)
        Offer.objects.all().delete()
        cursor.execute(kept.PUT_BACK)
        assert set(Offer.objects.values_list("currency", flat=True)) == {"usd"}
        cursor.execute(import_module("billing.migrations.0014_several_currencies").OFFERS)
    told = Offer.objects.values_list("plan_key", "plan_name", "currency")
    assert set(told) == {("dollars", "Dollars", "usd"), ("euros", "Euros", "eur")}
