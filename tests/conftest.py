"""What every test may ask for. The database server itself is started by tests/cluster.py."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
from pathlib import Path

import hypothesis
import pytest
from django.conf import settings
from django.db import connection
from django.test import TransactionTestCase
from pytest_django import DjangoDbBlocker

ROOT = Path(__file__).resolve().parent.parent

# In CI the same examples each time: what is red there is the change, and not the day's chance.
_IN_CI = bool(os.environ.get("CI"))
hypothesis.settings.register_profile("default", max_examples=60, deadline=None, derandomize=_IN_CI)
hypothesis.settings.register_profile("thorough", max_examples=1_000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("FAREBOX_TEST_PROFILE", "default"))


def pytest_collection(session: pytest.Session) -> None:
    """Have each worker of a whole run import the tests from another file on.

    Who imports a test file first rewrites its assertions and keeps that for the others. In a new
    clone, workers that all began with the same file would each do so for nearly all of them.
    """
    name = os.environ.get("PYTEST_XDIST_WORKER", "")
    whole = [Path(arg).resolve() for arg in session.config.args] == [ROOT / "tests"]
    if not (name and whole) or sys.dont_write_bytecode:
        return
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    first = len(files) * int(name.removeprefix("gw")) // workers
    for file in [*files[first:], *files[:first]]:
        with contextlib.suppress(Exception):  # told where pytest imports it
            importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the collector of garbage leave what stays anyway alone: all that was imported by now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data that lies beside the project; skips where there is none."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("reference data is not here: no ../shared beside the project")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _quick_settings() -> None:
    """Hash passwords quickly, and look for static files when asked instead of at every client."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.WHITENOISE_AUTOREFRESH = True


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    request: pytest.FixtureRequest,
    django_test_environment: None,
    django_db_modify_db_settings_parallel_suffix: None,
    django_db_blocker: DjangoDbBlocker,
) -> None:
    """Let one worker migrate a database, and the others copy it.

    On a server of the run's own: on another one, what a run that was killed left would be copied.
    """
    if not hasattr(request.config, "workerinput") or os.environ.get("FAREBOX_TEST_DATABASE_URL"):
        return
    ours, tests = connection.settings_dict, connection.settings_dict["TEST"]
    served, own = ours["NAME"], tests["NAME"]
    with django_db_blocker.unblock(), connection._nodb_cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(1)")  # until this connection closes
        cursor.execute("SELECT FROM pg_database WHERE datname = %s", [_TEMPLATE])
        if not cursor.rowcount:
            tests["NAME"] = _TEMPLATE
            connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
            connection.close()
            settings.DATABASES["default"]["NAME"] = ours["NAME"] = served
            tests["NAME"] = own
    tests["TEMPLATE"] = _TEMPLATE


_TEMPLATE = "test_farebox_migrated"


@pytest.fixture(autouse=True, scope="session")
def _quick_flush() -> None:
    """Let tests that commit empty only the tables that they filled.

    Django's own flush truncates all of them, makes permissions anew and forgets the partitioned
    table: half a second for each of hundreds of tests, and rows that stay.
    """

    tables: list[str] = []

    def flush(_case: TransactionTestCase) -> None:
        with connection.cursor() as cursor:
            if not tables:
                cursor.execute(_TABLES)
                tables.extend(name for (name,) in cursor.fetchall())
            cursor.execute(
                " UNION ALL ".join(f"SELECT '{t}' WHERE EXISTS (SELECT FROM {t})" for t in tables)
            )
            filled = [name for (name,) in cursor.fetchall()]
            if _GUARDED.isdisjoint(filled):
                # Foreign keys are checked at the end, so one transaction needs no order.
                cursor.execute(";".join(["BEGIN", *(f"DELETE FROM {t}" for t in filled), "COMMIT"]))
            else:
                cursor.execute(f"TRUNCATE {', '.join(filled)} CASCADE")
            cursor.execute(
                "INSERT INTO accounts_catalogueversion (id, version) VALUES (1, 0)"
                " ON CONFLICT DO NOTHING"
            )

    TransactionTestCase._fixture_teardown = flush  # type: ignore[attr-defined]


# From these the database lets nothing be deleted, only all at once.
_GUARDED = frozenset(
    {
        "billing_invoice",
        "billing_invoiceline",
        "billing_ledgerentry",
        "billing_ledgerposting",
        "billing_planentitlement",
        "billing_planversion",
    }
)
_TABLES = """
SELECT format('%I', relname) FROM pg_class
 WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
   AND relname NOT IN ('django_migrations', 'django_content_type', 'auth_permission',
                       'accounts_catalogueversion')
"""
