"""Django's entry for the composition root."""

from django.apps import AppConfig


class ConfigConfig(AppConfig):
    """Settings, routes, commands that play the whole."""

    name = "config"

    def ready(self) -> None:
        """Make ours the Celery app that `.delay()` finds, in every process that runs Django."""
        from config import celery  # noqa: F401
