"""The broker: its tables are made once, and its address is what the settings say."""

from __future__ import annotations

import io

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pytest_django import Settings

from config import celery


@pytest.fixture
def own_database(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    """The broker of this test is the test's database, whatever the environment names."""
    parts = conninfo_to_dict(django_settings.DATABASE_URL)
    parts["dbname"] = str(connection.settings_dict["NAME"])
    address = make_conninfo(**parts)  # type: ignore[arg-type]  # typed for one
    monkeypatch.setitem(celery.app.conf.broker_transport_options, "conn_string", address)


def prepare() -> str:
    said = io.StringIO()
    call_command("prepare_broker", stdout=said)
    return said.getvalue()


@pytest.mark.usefixtures("own_database")
def test_the_tables_are_made_once() -> None:
    prepare()

    assert "are there" in prepare()
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('pgmq.meta')")
        assert cursor.fetchone() == ("pgmq.meta",)


def test_a_broker_that_is_no_postgresql_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(celery.app.conf.broker_transport_options, "conn_string", raising=False)

    assert "needs no preparation" in prepare()


def test_without_an_address_the_own_database_is_the_broker(settings: Settings) -> None:
    settings.BROKER_URL = ""
    settings.DATABASE_URL = "postgresql://me:secret@/mine?host=/run/sockets"

    url, options = celery._broker()

    assert url == "pgmq://"
    assert conninfo_to_dict(options["conn_string"]) == {
        "user": "me", "password": "secret", "dbname": "mine", "host": "/run/sockets",
    }  # fmt: skip
    assert options["init_extension"] is False


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("pgmq://me:secret@db:5433/queue", "conn_string"),
        ("redis://localhost/0", "unacked_restore_interval"),
        ("amqp://guest@localhost//", None),
    ],
)
def test_any_other_broker_is_given_by_its_address(
    settings: Settings, url: str, name: str | None
) -> None:
    settings.BROKER_URL = url

    used, options = celery._broker()

    assert used == ("pgmq://" if url.startswith("pgmq") else url)
    assert (name in options) if name else options == {}
