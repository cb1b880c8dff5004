"""Celery's processes for tests that kill them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Processes:
    """Workers and a beat, each with its children in a group of its own."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment, self._folder = environment, folder
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, app: str = "config.celery") -> None:
        """Start one."""
        with (self._folder / f"{len(self._running)}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", app, *command],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running.append(process)

    def start_workers(self) -> None:
        """Two, of two processes each."""
        for name in ("one", "two"):
            self.start("worker", "-c", "2", "-l", "WARNING", "-n", name, "--without-mingle")

    def kill(self, *, since: int = 0) -> None:
        """kill -9 all that were started since then, with their children."""
        for process in self._running[since:]:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(timeout=20)
        del self._running[since:]
