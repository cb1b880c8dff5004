"""One running server: starting it, knowing when it is ready, stopping it, and finding one left.

A supervisor that is killed with SIGKILL cannot stop its server. On Linux the kernel then does
(parent-death signal); elsewhere the next start finds the server by its pid file and stops it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from config.embedded.accounts import Account, plain_environment

_FAST_S, _IMMEDIATE_S = 30.0, 10.0
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>


class ServerNotReady(Exception):
    """The server ended, or did not answer in time; the sentence carries its last words."""


def launch(command: Sequence[str], *, account: Account, log: Path) -> subprocess.Popen[bytes]:
    """Start the server in a session of its own, so that a Ctrl-C reaches only its supervisor."""
    with log.open("ab") as out:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd="/",
            env=plain_environment(),
            start_new_session=True,
            user=account.uid if account.borrowed else None,
            group=account.gid if account.borrowed else None,
            extra_groups=[] if account.borrowed else None,
            preexec_fn=_die_with_parent(),  # noqa: PLW1509 - one system call, no lock taken
        )


def _die_with_parent() -> Callable[[], None] | None:
    # The kernel watches the thread that forked; only the main one lives as long as the process.
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGINT)


def await_ready(process: subprocess.Popen[bytes], data: Path, *, log: Path, wait_s: float) -> None:
    """Return once the server accepts connections; raises ServerNotReady with what it said."""
    begun = log.stat().st_size
    deadline = time.monotonic() + wait_s
    while _status(data, process.pid) != "ready":
        if process.poll() is not None:
            raise ServerNotReady(last_words(log, since=max(0, begun - 8_000)))
        if time.monotonic() > deadline:
            raise ServerNotReady(f"it was not ready after {wait_s:.0f} seconds")
        time.sleep(0.02)


def last_words(log: Path, *, since: int = 0) -> str:
    """The last complaint in the log, without its time stamp."""
    lines = log.read_bytes()[since:].decode(errors="replace").splitlines()
    for line in reversed(lines):
        for mark in ("FATAL:", "PANIC:", "ERROR:"):
            if mark in line:
                return line.split(mark, 1)[1].strip()
    return lines[-1].strip() if lines else "it said nothing"


def _pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _status(data: Path, pid: int) -> str:
    lines = _pid_file(data)
    mine = len(lines) > 7 and lines[0].strip() == str(pid)
    return lines[7].strip() if mine else ""


def stop_leftover(data: Path) -> None:
    """Stop a server of this data folder that lost its supervisor; forget one that is gone."""
    lines = _pid_file(data)
    if not lines or not lines[0].strip().isdigit():
        return
    pid = int(lines[0])
    if serves(pid, data):
        stop(pid, gone=lambda: not serves(pid, data))
    elif _alive(pid):
        # The number went to another process, after which PostgreSQL would refuse to start.
        (data / "postmaster.pid").unlink(missing_ok=True)


def serves(pid: int, data: Path) -> bool:
    """Whether the process is a server of this data folder."""
    return str(data) in _arguments(pid)


def _arguments(pid: int) -> list[str]:
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return []
    shown = subprocess.run(
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)],
        check=False,
        capture_output=True,
        text=True,
    )
    return shown.stdout.split()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def stop(pid: int, *, gone: Callable[[], bool]) -> None:
    """Stop fast (open work is rolled back), then at once, then by force."""
    for number, wait_s in (
        (signal.SIGINT, _FAST_S),
        (signal.SIGQUIT, _IMMEDIATE_S),
        (signal.SIGKILL, _IMMEDIATE_S),
    ):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            if gone():
                return
            time.sleep(0.02)
