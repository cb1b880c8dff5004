"""Processes of quickstart: started, watched, stopped, and found again after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from config.quickstart.demonstration.calling import until
from config.quickstart.processes import Processes, ProcessFailed

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(home=tmp_path, folder=tmp_path, environment=dict(os.environ))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pid_of(processes: Processes) -> int:
    (process,) = processes._running
    return process.popen.pid


def test_a_process_is_started_with_a_log_of_its_own_and_stopped(
    processes: Processes, tmp_path: Path
) -> None:
    processes.start("sleeper", SLEEPER)
    pid = pid_of(processes)
    log = tmp_path / "logs" / "sleeper.log"
    until("it has spoken", log.read_text)
    processes.check()

    processes.stop()
    processes.stop()

    assert not alive(pid)
    assert log.read_text() == "up\n"
    assert log.stat().st_mode & 0o077 == 0
    assert not (tmp_path / "processes.json").exists()


def test_what_a_process_has_started_ends_with_it(processes: Processes, tmp_path: Path) -> None:
    child = tmp_path / "child"
    script = f"sleep 600 & echo $! > {child}; trap '' TERM; wait"
    processes.start("parent", ["/bin/sh", "-c", script])
    until("it has a child", lambda: child.exists() and child.read_text().strip())
    pid = int(child.read_text())

    processes._running[0].popen.kill()
    processes.stop()

    until("the child is gone", lambda: not alive(pid) or _is_zombie(pid))


def _is_zombie(pid: int) -> bool:
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False)
    return shown.stdout.strip().startswith(b"Z")


def test_a_process_that_ends_is_told_with_its_last_complaint(processes: Processes) -> None:
    processes.start("broken", [sys.executable, "-c", "raise ValueError('no such thing')"])
    processes._running[0].popen.wait(30)

    with pytest.raises(
        ProcessFailed, match=r"^broken ended with code 1: ValueError: no such thing\. Its log is"
    ):
        processes.check()

    processes.stop()


def test_a_full_disk_is_called_so(processes: Processes) -> None:
    with pytest.raises(ProcessFailed, match="disk is full"):
        processes.run("writer", ["/bin/sh", "-c", "echo 'No space left on device'; exit 1"])


def test_a_command_that_succeeds_says_nothing(processes: Processes) -> None:
    processes.run("fine", ["/bin/sh", "-c", "exit 0"])


def test_what_a_killed_run_left_is_ended_by_the_next(processes: Processes, tmp_path: Path) -> None:
    processes.start("left", SLEEPER)
    pid = pid_of(processes)
    next_run = Processes(home=tmp_path, folder=tmp_path, environment={})

    assert next_run.stop_leftovers() == 1

    assert processes._running[0].popen.wait(30) == -signal.SIGKILL
    assert next_run.stop_leftovers() == 0
    assert not alive(pid)
    processes.stop()


def test_a_process_that_only_has_the_number_of_ours_is_left_alone(
    processes: Processes, tmp_path: Path
) -> None:
    processes.start("other", SLEEPER)
    notes = tmp_path / "processes.json"
    notes.write_text(notes.read_text().replace('"begun_at": "', '"begun_at": "0'))

    assert Processes(home=tmp_path, folder=tmp_path, environment={}).stop_leftovers() == 0

    processes.check()
    processes.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no parent-death signal")
def test_on_linux_a_process_ends_with_the_quickstart_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import os, sys, time
from pathlib import Path
from config.quickstart.processes import Processes
home = Path({str(tmp_path)!r})
Processes(home=home, folder=home, environment=dict(os.environ)).start("child", {SLEEPER!r})
time.sleep(600)
"""
    supervisor = subprocess.Popen([sys.executable, "-c", script])
    log = tmp_path / "logs" / "child.log"
    until("the child is up", lambda: log.exists() and log.read_text())
    (noted,) = json.loads((tmp_path / "processes.json").read_text())

    supervisor.kill()
    supervisor.wait()

    until("the child is gone", lambda: not alive(noted["pid"]) or _is_zombie(noted["pid"]))
