"""Starting all of Farebox, in order, each part ready before the next needs it; and stopping it.

PostgreSQL -> tables, broker, example -> Stripe simulator -> web with the gate -> worker -> beat.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import urllib3

from config import environment as env
from config.embedded import places
from config.embedded.postgres import Cluster
from config.quickstart import ports, state
from config.quickstart.processes import Processes

_READY_S: Final = 90.0
_LOOK_EVERY_S: Final = 0.1
_TICK_S: Final = 2  # of the beat: what the demonstration waits for comes within seconds
FOLDER: Final = Path(__file__).resolve().parent.parent.parent
Say = Callable[[str], None]


class AlreadyRunning(Exception):
    """A quickstart of this home is running."""


class NotReady(Exception):
    """Farebox was started and did not become ready in time."""


class House:
    """All of it as one thing: `start` it, `check` it, `stop` it."""

    def __init__(self, *, home: Path, port: int, say: Say, file: Path | None = None) -> None:
        self.home = home.resolve()
        self.file = file or self.home / "quickstart.json"
        self.port = port
        self.state_file = self.home / "quickstart-state.json"
        self.base_url = env.BASE_URL.read() if _given(env.BASE_URL) else _address(port)
        self.local_url = _address(port)
        self.stripe_mode = _stripe_mode()
        self.stripe_url = _address(port + 1) if self.stripe_mode == "simulator" else None
        self.database_url = env.DATABASE_URL.read()
        self.known: state.State = {}
        self.found_state = False
        self._say = say
        self._cluster: Cluster | None = None
        self._processes: Processes | None = None
        self._lock: int | None = None

    def __enter__(self) -> House:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def broker_url(self) -> str:
        """The broker's address, with its password."""
        own = self.database_url.replace("postgresql://", "pgmq://", 1)
        return env.BROKER_URL.read() or own

    def start(self) -> None:
        """Start everything and return once it answers.

        Raises AlreadyRunning, PortTaken, StateUnreadable, ClusterStartFailed, ProcessFailed,
        NotReady, OSError: each a sentence.
        """
        places.make_home(self.home)
        self._take_lock()
        Processes(home=self.home, folder=FOLDER, environment={}).stop_leftovers()
        self.known = state.with_secrets(state.read(self.state_file))
        self._insist_on_ports()
        # Whoever waits for the file must not find that of another run. Not sooner than here: a
        # start that is refused leaves the file of the one that is running.
        self.file.unlink(missing_ok=True)
        self.found_state = "operator_key" in self.known
        state.write(self.state_file, self.known)
        self._start_database()
        self._processes = Processes(home=self.home, folder=FOLDER, environment=self._environment())
        self._prepare()
        self._start_services(self._processes)
        self._await_ready()

    def check(self) -> None:
        """Raises ProcessFailed where a part has ended."""
        if self._processes is not None:
            self._processes.check()

    def stop(self) -> None:
        """Stop everything that was started. Safe to repeat."""
        if self._processes is not None:
            self._say("Stopping…")
            self._processes.stop()
            self._processes = None
        if self._cluster is not None:
            self._cluster.stop()
            self._cluster = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def remember(self, **facts: object) -> None:
        """Keep facts for the next run."""
        self.known |= facts
        state.write(self.state_file, self.known)

    # --- the parts of a start ---------------------------------------------------------------

    def _take_lock(self) -> None:
        path = self.home / "quickstart.lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(lock, 20).decode().strip() or "unknown"
            os.close(lock)
            raise AlreadyRunning(
                f"Farebox (process {holder}) is running in {self.home} already; stop it first, or "
                f"choose another folder and port: make run HOME_DIR=… PORT=…"
            ) from error
        self._lock = lock
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())

    def _insist_on_ports(self) -> None:
        remedy = f"choose another: make run PORT={self.port + 100}"
        ports.insist_free(self.port, purpose="Farebox", remedy=remedy)
        if self.stripe_mode == "simulator":
            ports.insist_free(self.port + 1, purpose="the Stripe simulator", remedy=remedy)

    def _start_database(self) -> None:
        if self.database_url:
            return
        self._say("Starting PostgreSQL…")
        self._cluster = Cluster(self.home, durable=True)
        self._cluster.start()
        self.database_url = self._cluster.dsn

    def _environment(self) -> dict[str, str]:
        """The environment of every process: what the caller set, and what quickstart decides."""
        decided = {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "PYTHONUNBUFFERED": "1",
            "FAREBOX_DATABASE_URL": self.database_url,
            "FAREBOX_BASE_URL": self.base_url,
        }
        wished = {
            "FAREBOX_SECRET_KEY": self.known["secret_key"],
            "FAREBOX_BILLING_TICK_S": str(_TICK_S),
            "FAREBOX_CLOSE_GRACE_S": "0",
            "FAREBOX_LOG_FORMAT": "console",
        }
        if self.stripe_mode == "simulator":
            decided["FAREBOX_STRIPE_API_BASE"] = str(self.stripe_url)
            decided["FAREBOX_STRIPE_WEBHOOK_SECRET"] = self.known["webhook_secret"]
        return {**wished, **os.environ, **decided}

    def _prepare(self) -> None:
        assert self._processes is not None
        self._say(
            "Looking after the database…" if self.found_state else "Making tables and an example…"
        )
        manage = (sys.executable, "manage.py")
        seed = ("--state", str(self.state_file))
        self._processes.run("prepare", [*manage, "prepare", *seed])
        self.known = state.read(self.state_file)

    def _start_services(self, processes: Processes) -> None:
        self._say("Starting web, gate, worker, beat and the Stripe simulator…")
        python = (sys.executable, "-m")
        if self.stripe_mode == "simulator":
            processes.start("stripe-simulator", [*python, *self._simulator()])
        processes.start("web", [*python, *_web(self.port)])
        celery = (*python, "celery", "-A", "config.celery")
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
        processes.start("worker", [*celery, "worker", "-c", "2", "-l", "INFO", *quiet])
        schedule = str(self.home / "beat-schedule")
        processes.start("beat", [*celery, "beat", "-s", schedule, "--pidfile="])

    def _simulator(self) -> list[str]:
        return [
            *("billing.payments.simulator", "--port", str(self.port + 1)),
            *("--database", str(self.home / "stripe-simulator.sqlite3")),
            *("--webhook", f"{self.local_url}/api/v1/stripe/webhook"),
            *("--secret", self.known["webhook_secret"]),
        ]

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _READY_S
        waiting: object = "nothing answered"
        with urllib3.PoolManager(retries=False, timeout=5) as http:
            while time.monotonic() < deadline:
                self.check()
                answer = _look(http, f"{self.local_url}/readyz")
                if answer.get("status") == "ready" and self._simulator_answers(http):
                    return
                waiting = answer.get("checks", waiting)
                time.sleep(_LOOK_EVERY_S)
        raise NotReady(
            f"Farebox was not ready after {_READY_S:.0f} seconds ({waiting}); see {self.home}/logs."
        )

    def _simulator_answers(self, http: urllib3.PoolManager) -> bool:
        return self.stripe_url is None or "now" in _look(
            http, f"{self.stripe_url}/_simulator/clock"
        )


def _web(port: int) -> list[str]:
    return [
        *("uvicorn", "config.asgi:application", "--host", ports.HOST, "--port", str(port)),
        *("--loop", "uvloop", "--http", "config.shortcut:ShortcutProtocol", "--no-access-log"),
        *("--timeout-graceful-shutdown", "5"),
    ]


def _look(http: urllib3.PoolManager, url: str) -> dict[str, Any]:
    try:
        found = http.request("GET", url).json()
    except (urllib3.exceptions.HTTPError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _address(port: int) -> str:
    return f"http://{ports.HOST}:{port}"


def _given(setting: env.Setting[str]) -> bool:
    return bool(os.environ.get(setting.name, "").strip())


def _stripe_mode() -> str:
    key = env.STRIPE_API_KEY.read()
    if not key:
        return "simulator"
    return "live" if "_live_" in key else "test"
