"""An embedded PostgreSQL: made, started, found again and stopped, as root and as anyone else.

    cluster = Cluster(Path(".farebox"), durable=True)
    cluster.start()      # the first time some two seconds, later a tenth of one
    cluster.dsn          # postgresql://farebox:…@/farebox?host=…
    cluster.stop()

`python -m config.embedded.postgres --home DIR` does the same until it is interrupted.
It listens on a Unix socket only, in a folder nobody else may enter, and asks for a password.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.parse
from pathlib import Path

import psycopg
from psycopg import sql

from config.embedded import places, postmaster
from config.embedded.accounts import Account, server_account

MAJOR = "18"
_SPACE_NEEDED_MB = 200
_READY_S = 120.0
_LOG_MAX_BYTES = 10_000_000

_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "jit": "off",  # statements here are short: compiling them costs more than it saves
    "logging_collector": "off",
}
_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
_THROW_AWAY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "128MB",
    "autovacuum_naptime": "10min",
}


class ClusterStartFailed(Exception):
    """The database did not start; the sentence says why and what to do."""


class Cluster:
    """One PostgreSQL data folder and the server that runs on it.

    `home` holds everything that belongs to it. `durable=False` trades safety against power loss
    for speed: for data that is thrown away.
    """

    def __init__(self, home: Path, *, durable: bool) -> None:
        self.home = home.resolve()
        self.durable = durable
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: Path | None = None

    @property
    def dsn(self) -> str:
        """The libpq URL of the database `farebox`, password included."""
        return self._url("farebox", "farebox")

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the server and wait until it answers, making the cluster where there is none.

        A server that a killed supervisor left behind is stopped first. Raises ClusterStartFailed.
        """
        try:
            self._start()
        except BaseException as error:
            self.stop()
            if (sentence := self._explain(error)) is None:
                raise
            raise ClusterStartFailed(sentence) from error

    def _start(self) -> None:
        places.make_home(self.home)
        self._take_lock()
        data = places.known_state(self.home) / "data"
        account = server_account(data)
        if account is None:
            raise ClusterStartFailed(
                "PostgreSQL refuses to run as root, and none of the accounts postgres, nobody and "
                "daemon exists; run this as an ordinary user."
            )
        state = places.make_state(self.home, account)
        data = state / "data"
        programs = places.runnable_programs(state, account)
        self._socket = places.make_socket_folder(state, account)
        postmaster.stop_leftover(data)
        if not (data / "PG_VERSION").exists():
            self._make_cluster(data, programs=programs, account=account)
        elif (found := (data / "PG_VERSION").read_text().strip()) != MAJOR:
            raise ClusterStartFailed(
                f"{data} was made by PostgreSQL {found}, and this version brings {MAJOR}; move "
                f"the data by dump and restore, or choose another folder."
            )
        self._launch(data, programs=programs, account=account)
        self._provide_database()

    def stop(self) -> None:
        """Stop the server if it runs, and let others have the folder. Safe to repeat."""
        self._stop_server()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def destroy(self) -> None:
        """Stop the server and delete the cluster with all its data.

        Raises ClusterStartFailed where another process runs it.
        """
        if self._lock is None:
            if not self.home.exists():
                return
            self._take_lock()
        self._stop_server()
        state = places.known_state(self.home)
        postmaster.stop_leftover(state / "data")
        shutil.rmtree(state, ignore_errors=True)
        for name in ("password", "place", "lock"):
            (self.home / f"postgres.{name}").unlink(missing_ok=True)
        self.stop()

    def _stop_server(self) -> None:
        if (process := self._process) is not None:
            postmaster.stop(process.pid, gone=lambda: process.poll() is not None)
            self._process = None
        if self._socket is not None:
            shutil.rmtree(self._socket, ignore_errors=True)
            self._socket = None

    # --- the parts of a start ---------------------------------------------------------------

    def _take_lock(self) -> None:
        path = self.home / "postgres.lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(lock, 20).decode().strip() or "unknown"
            os.close(lock)
            raise ClusterStartFailed(
                f"Another Farebox (process {holder}) is running in {self.home}; stop it first, or "
                f"choose another folder."
            ) from error
        self._lock = lock
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())

    def _make_cluster(self, data: Path, *, programs: Path, account: Account) -> None:
        free_mb = shutil.disk_usage(data.parent).free // 1_000_000
        if free_mb < _SPACE_NEEDED_MB:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(data))
        for left in data.parent.glob("new-*"):  # of an attempt that was killed
            shutil.rmtree(left)
        partial = Path(tempfile.mkdtemp(dir=data.parent, prefix="new-"))
        account.give(partial)
        secret = data.parent / "initial-password"
        try:
            secret.touch(mode=0o600)
            secret.write_text(self._password(fresh=True))
            account.give(secret)
            done = account.run(
                [
                    *(str(programs / "initdb"), "-D", str(partial), "-U", "postgres"),
                    *("--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"),
                    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                    *("--auth=scram-sha-256", f"--pwfile={secret}"),
                    # Stretching guards passwords people choose; ours is 256 random bits.
                    *("-c", "scram_iterations=1"),
                    *([] if self.durable else ["--no-data-checksums"]),
                ],
                timeout_s=120,
            )
            if done.returncode != 0:
                raise ClusterStartFailed(_initdb_sentence(done.stderr or done.stdout, data))
            partial.rename(data)
        finally:
            secret.unlink(missing_ok=True)
            shutil.rmtree(partial, ignore_errors=True)

    def _launch(self, data: Path, *, programs: Path, account: Account) -> None:
        log = data.parent / "server.log"
        if log.exists() and log.stat().st_size > _LOG_MAX_BYTES:
            log.replace(log.with_suffix(".log.1"))
        options = _OPTIONS | (_DURABLE if self.durable else _THROW_AWAY)
        options["unix_socket_directories"] = str(self._socket)
        command = [str(programs / "postgres"), "-D", str(data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        self._process = postmaster.launch(command, account=account, log=log)
        try:
            postmaster.await_ready(self._process, data, log=log, wait_s=_READY_S)
        except postmaster.ServerNotReady as error:
            if os.strerror(errno.ENOSPC) in str(error):
                raise ClusterStartFailed(_disk_full_sentence(data)) from error
            raise ClusterStartFailed(
                f"PostgreSQL did not start: {error}. Its whole log is {log}."
            ) from error

    def _provide_database(self) -> None:
        with psycopg.connect(self._url("postgres", "postgres"), autocommit=True) as connection:
            if not connection.execute(
                "SELECT 1 FROM pg_roles WHERE rolname = 'farebox'"
            ).fetchone():
                connection.execute(
                    sql.SQL("CREATE ROLE farebox LOGIN CREATEDB PASSWORD {}").format(
                        self._password()
                    )
                )
                connection.execute("GRANT pg_monitor, pg_checkpoint TO farebox")
            if not connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = 'farebox'"
            ).fetchone():
                connection.execute("CREATE DATABASE farebox OWNER farebox")

    def _password(self, *, fresh: bool = False) -> str:
        path = self.home / "postgres.password"
        if fresh:
            path.unlink(missing_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(32))
        return path.read_text().strip()

    def _url(self, user: str, database: str) -> str:
        host = urllib.parse.quote(str(self._socket), safe="/")
        return f"postgresql://{user}:{self._password()}@/{database}?host={host}"

    def _explain(self, error: BaseException) -> str | None:
        match error:
            case ClusterStartFailed() | places.NoPlaceForCluster():
                return str(error)
            case OSError(errno=errno.ENOSPC):
                return _disk_full_sentence(self.home)
            case PermissionError():
                return (
                    f"{error.filename or self.home} belongs to another user; run as that user, or "
                    f"choose another folder."
                )
            case FileNotFoundError() if str(error.filename).endswith("postgres.password"):
                return (
                    f"{error.filename} is gone, and with it the way into the database in "
                    f"{places.known_state(self.home)}; put it back, or remove both."
                )
            case OSError() | psycopg.Error():
                return f"The database in {self.home} did not start: {error}"
            case _:
                return None


def _disk_full_sentence(folder: Path) -> str:
    while not folder.exists():
        folder = folder.parent
    free_mb = shutil.disk_usage(folder).free // 1_000_000
    return (
        f"The disk that holds {folder} is full ({free_mb} MB free); Farebox's database needs "
        f"{_SPACE_NEEDED_MB} MB to begin with."
    )


def _initdb_sentence(said: str, data: Path) -> str:
    if os.strerror(errno.ENOSPC) in said:
        return _disk_full_sentence(data)
    complaints = [line for line in said.splitlines() if "rror:" in line or "FATAL:" in line]
    return f"The database in {data} could not be made: {(complaints or [said.strip()])[-1]}"


def main() -> int:
    """Run a cluster until interrupted, and print its address."""
    parser = argparse.ArgumentParser(prog="python -m config.embedded.postgres", description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".farebox"), help="where it is kept")
    parser.add_argument("--throw-away", action="store_true", help="fast, not safe: for tests")
    parser.add_argument("--remove", action="store_true", help="delete the cluster and its data")
    options = parser.parse_args()
    cluster = Cluster(options.home, durable=not options.throw_away)
    if options.remove:
        cluster.destroy()
        return 0
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # a shell starts background jobs with INT ignored
        signal.signal(number, signal.default_int_handler)
    try:
        cluster.start()
        print(cluster.dsn, flush=True)
        signal.pause()
    except ClusterStartFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        cluster.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
