"""`manage.py quickstart`: all of Farebox from nothing, and a demonstration of its main job."""

from __future__ import annotations

import contextlib
import errno
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from config.embedded.postgres import ClusterStartFailed
from config.environment import SettingInvalid
from config.quickstart import ports, printing, state
from config.quickstart.demonstration import StepFailed, demonstrate
from config.quickstart.demonstration.calling import Farebox
from config.quickstart.house import AlreadyRunning, House, NotReady
from config.quickstart.processes import ProcessFailed

_SENTENCES = (
    AlreadyRunning,
    ClusterStartFailed,
    NotReady,
    ports.PortTaken,
    ProcessFailed,
    SettingInvalid,
    state.StateUnreadable,
)
_WATCH_EVERY_S = 0.5


class Command(BaseCommand):
    """Starts everything, demonstrates it, and serves until it is interrupted."""

    help = "Start all of Farebox from nothing, show what it does, and keep serving."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Port, place, and whether to stay."""
        parser.add_argument("--port", type=int, default=8402, help="Stripe's simulator: the next")
        parser.add_argument("--home", type=Path, default=Path(".farebox"), help="data and logs")
        parser.add_argument("--once", action="store_true", help="demonstrate, then stop")
        parser.add_argument("--json", type=Path, help="addresses and keys (HOME/quickstart.json)")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Run until done or interrupted, and leave with the code that says how it went."""
        home: Path = options["home"]
        with _signals_as_interrupt():
            try:
                code = self._run(home, options)
            except _SENTENCES as error:
                code = self._refuse(str(error))
            except StepFailed as error:
                code = self._refuse(f"The demonstration failed at {error}", code=2)
            except OSError as error:
                code = self._refuse(_os_sentence(error, home))
            except KeyboardInterrupt:
                self.stdout.write("\nStopped.")
                code = 130 if options["once"] else 0
        sys.exit(code)

    def _run(self, home: Path, options: dict[str, Any]) -> int:
        once: bool = options["once"]
        port: int = options["port"]
        if not 1 <= port <= 65_534:
            return self._refuse(f"{port} is no port; choose one from 1 to 65534.")
        house = House(home=home, port=port, say=self._say, file=options["json"])
        with house, _ignoring_signals_at_exit():
            state.write(house.file, printing.summary(house))
            if once or not house.known.get("demonstrated"):
                self._demonstrate(house)
            else:
                self._say(f"The state of {house.home} was found; --once plays the main job again.")
            if not once:
                self._say(printing.welcome(house, file=house.file))
                _watch(house)
        self._still_taken(house)
        return 0

    def _demonstrate(self, house: House) -> None:
        farebox = Farebox(
            house.local_url,
            operator_key=house.known["operator_key"],
            gateway_key=house.known["gateway_key"],
            stripe_url=house.stripe_url,
        )
        with contextlib.closing(farebox):
            demonstrate(farebox, simulated=house.stripe_mode == "simulator", say=self._say)
        house.remember(demonstrated=True)

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def _refuse(self, sentence: str, *, code: int = 1) -> int:
        self.stdout.flush()
        self.stderr.write(sentence)
        return code

    def _still_taken(self, house: House) -> None:
        for port in (house.port, house.port + 1):
            if not ports.free(port):
                self.stderr.write(f"Port {port} is still in use.")


def _watch(house: House) -> None:
    while True:
        house.check()
        time.sleep(_WATCH_EVERY_S)


@contextlib.contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """Let a closed terminal and a polite kill stop us as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _ignoring_signals_at_exit() -> Iterator[None]:
    """A second Ctrl-C must not interrupt the stopping."""
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def _os_sentence(error: OSError, home: Path) -> str:
    place = error.filename or home
    match error.errno:
        case errno.ENOSPC:
            folder = home.resolve()
            while not folder.exists():
                folder = folder.parent
            free_mb = shutil.disk_usage(folder).free // 1_000_000
            return f"The disk that holds {folder} is full ({free_mb} MB free)."
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"{place} cannot be written to: {error.strerror}; choose another: HOME_DIR=…"
        case _:
            return f"{place}: {error.strerror or error}"
