"""pytest plugin: the whole run works on one throw-away embedded PostgreSQL.

Loaded by `-p tests.cluster` (pyproject.toml), so that the server's address is in the environment
before Django reads its settings. Workers of pytest-xdist share the server of their controller and
make a database each. FAREBOX_TEST_DATABASE_URL names another server to use instead; its user must
be allowed to create databases. FAREBOX_DATABASE_URL itself is never touched by tests.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from config.embedded.postgres import Cluster, ClusterStartFailed

_PREFIX = "farebox-test-"
_OURS = {"FAREBOX_TEST_DATABASE_URL", "FAREBOX_TEST_GATEWAYS", "FAREBOX_TEST_PROFILE"}


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, None, None]:
    """Give the run its environment; a wrapper runs before pytest-django loads the settings."""
    options = parser.parse_known_args(args)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        for name in [name for name in os.environ if name.startswith(("FAREBOX_", "STRIPE_"))]:
            if name not in _OURS:
                del os.environ[name]  # a developer's own settings must not decide a test
        os.environ["FAREBOX_SECRET_KEY"] = "only-for-tests-" * 4
        os.environ["FAREBOX_DATABASE_URL"] = os.environ.get("FAREBOX_TEST_DATABASE_URL", "")
        if not (options.help or options.version or os.environ["FAREBOX_DATABASE_URL"]):
            os.environ["FAREBOX_DATABASE_URL"] = _start(early_config)
    return (yield)


def _start(config: pytest.Config) -> str:
    _remove_leftovers()
    home = Path(tempfile.mkdtemp(prefix=_PREFIX))
    if os.geteuid() == 0:
        home.chmod(0o711)  # ours, new and empty: the server's account must pass through
    cluster = Cluster(home, durable=False)
    config.add_cleanup(lambda: _remove(cluster))
    try:
        cluster.start()
    except ClusterStartFailed as error:
        raise pytest.UsageError(str(error)) from error
    return cluster.dsn


def _remove_leftovers() -> None:
    """Delete what runs that were killed left behind; the lock tells those from runs at work."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/postgres.lock"):
        with contextlib.suppress(ClusterStartFailed, OSError):  # at work, or gone by now
            if lock.stat().st_uid == os.geteuid():
                _remove(Cluster(lock.parent, durable=False))


def _remove(cluster: Cluster) -> None:
    cluster.destroy()
    shutil.rmtree(cluster.home, ignore_errors=True)
