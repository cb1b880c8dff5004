"""Django's entry for the app that knows what it costs."""

from django.apps import AppConfig


class BillingConfig(AppConfig):
    """Catalogue, subscriptions, rating, invoices, ledger, payments."""

    name = "billing"
