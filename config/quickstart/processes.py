"""The processes that quickstart starts: each in a group of its own, with a log, none left behind.

A quickstart that is killed cannot stop them. On Linux the kernel then asks them to end
(parent-death signal); everywhere the next start finds those that did not, by what is written in
HOME/processes.json, and ends them.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PATIENCE_S = 15.0
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
_DISK_FULL = "No space left on device"


class ProcessFailed(Exception):
    """A process ended that should not have; the sentence says which, why and where its log is."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of ours that runs."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path


class Processes:
    """Starts processes, watches them, and stops them all.

    Start from the main thread: the kernel ends a process with the thread that made it.
    """

    def __init__(self, *, home: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self._notes = home / "processes.json"
        self._logs = home / "logs"
        self._folder = folder
        self._environment = dict(environment)
        self._running: list[Process] = []

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a process; what it says goes to HOME/logs/<name>.log, begun anew."""
        log = self._fresh_log(name)
        popen = self._launch(command, log)
        self._running.append(Process(name, popen, log))
        self._note()

    def run(self, name: str, command: Sequence[str]) -> None:
        """Run a command to its end. Raises ProcessFailed where it does not succeed."""
        log = self._fresh_log(name)
        popen = self._launch(command, log)
        try:
            code = popen.wait()
        except BaseException:
            _end_group(popen.pid, signal.SIGKILL)
            popen.wait()
            raise
        if code != 0:
            raise ProcessFailed(_sentence(name, log, code))

    def check(self) -> None:
        """Raise ProcessFailed where one of them has ended."""
        for process in self._running:
            code = process.popen.poll()
            if code is not None:
                raise ProcessFailed(_sentence(process.name, process.log, code))

    def stop(self) -> None:
        """End them all, politely and then by force. Safe to repeat."""
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.popen.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE_S
        for process in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(max(0.0, deadline - time.monotonic()))
            _end_group(process.popen.pid, signal.SIGKILL)  # with what it may have left itself
            process.popen.wait()
        self._running.clear()
        self._notes.unlink(missing_ok=True)

    def stop_leftovers(self) -> int:
        """End what a killed quickstart of this home has left running; says how many."""
        try:
            noted = json.loads(self._notes.read_text())
        except (FileNotFoundError, ValueError):
            return 0
        found = [each["pid"] for each in noted if _begun_at(each["pid"]) == each["begun_at"]]
        for pid in found:
            _end_group(pid, signal.SIGKILL)
        for pid in found:
            _await_end(pid)
        self._notes.unlink(missing_ok=True)
        return len(found)

    def _launch(self, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,
                umask=0o077,
                preexec_fn=_end_with_parent(),  # noqa: PLW1509 - one system call, no lock taken
            )

    def _fresh_log(self, name: str) -> Path:
        self._logs.mkdir(mode=0o700, exist_ok=True)
        log = self._logs / f"{name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        log.touch(mode=0o600)
        return log

    def _note(self) -> None:
        noted = [
            {"name": each.name, "pid": each.popen.pid, "begun_at": _begun_at(each.popen.pid)}
            for each in self._running
        ]
        self._notes.write_text(json.dumps(noted))


def _end_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _end_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _await_end(pid: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while _begun_at(pid) and time.monotonic() < deadline:
        time.sleep(0.02)


def _begun_at(pid: int) -> str:
    """What tells a process from a later one of the same number; empty for none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
        shown = subprocess.run(
            ["/bin/ps", "-o", "lstart=", "-p", str(pid)],
            check=False,
            capture_output=True,
            text=True,
        )
        return shown.stdout.strip()
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state == "Z" else fields[18]


def _sentence(name: str, log: Path, code: int) -> str:
    said = log.read_text(errors="replace")
    if _DISK_FULL in said:
        return f"The disk is full: {name} could not go on. Its log is {log}."
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    complaints = [line for line in lines if "rror" in line]
    reason = (complaints or lines or ["it said nothing"])[-1]
    if code < 0:
        return f"{name} was ended by signal {-code}. Its log is {log}."
    return f"{name} ended with code {code}: {reason[:300].rstrip('.')}. Its log is {log}."
