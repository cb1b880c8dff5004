"""Django's entry for the app that knows who."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Customers, members, keys, gateways, audit."""

    name = "accounts"
