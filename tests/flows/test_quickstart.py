"""Quickstart for real: from an empty folder to a paid invoice, with worker and beat.

Its story is one test: workers of the suite that each told a part would each set up a Farebox.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3

from config.quickstart import ports
from tests.conftest import ROOT
from tests.free_ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a quickstart of these tests lives."""

    home: Path
    port: int

    def command(self, *more: str) -> list[str]:
        """What `make run` calls."""
        manage = [sys.executable, "manage.py", "quickstart"]
        return [*manage, "--home", str(self.home), "--port", str(self.port), *more]

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        """Run quickstart to its end."""
        return subprocess.run(
            self.command(*more),
            cwd=ROOT,
            env=a_users_environment(),
            text=True,
            capture_output=True,
            check=False,
            timeout=280,
        )

    def told(self) -> Any:
        """The quickstart's file."""
        return json.loads((self.home / "quickstart.json").read_text())


def a_users_environment() -> dict[str, str]:
    """Nothing of the tests' own settings."""
    kept = os.environ.items()
    return {name: value for name, value in kept if not name.startswith(("FAREBOX_", "STRIPE_"))}


@pytest.fixture
def place() -> Iterator[Place]:
    # Not in pytest's own folder: its parents may be closed to the account of the database.
    folder = Path(tempfile.mkdtemp(prefix="farebox-test-quickstart-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    yield Place(folder / "home", free_port(neighbours=1))
    shutil.rmtree(folder)


@pytest.fixture
def demonstrated(place: Place) -> subprocess.CompletedProcess[str]:
    """The main job has been played once, from an empty folder."""
    return place.run("--once")


@pytest.fixture
def serving(
    place: Place, demonstrated: subprocess.CompletedProcess[str]
) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts quickstart and waits until it serves; whatever happens, nothing is left running."""
    assert demonstrated.returncode == 0
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            place.command(),
            cwd=ROOT,
            env=a_users_environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "Ctrl-C stops everything" in line:
                return process
        raise AssertionError(f"quickstart ended with {process.wait()}: {said}")

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def test_from_an_empty_folder_to_a_clean_end(
    place: Place,
    demonstrated: subprocess.CompletedProcess[str],
    serving: Callable[[], subprocess.Popen[str]],
) -> None:
    once_plays_the_main_job_and_leaves_nothing_running(place, demonstrated)
    process = a_second_start_finds_its_state_and_a_killed_one_is_recovered(place, serving)
    ctrl_c_stops_everything(place, process)


def once_plays_the_main_job_and_leaves_nothing_running(
    place: Place, demonstrated: subprocess.CompletedProcess[str]
) -> None:
    assert demonstrated.returncode == 0, demonstrated.stdout + demonstrated.stderr
    lines = demonstrated.stdout.splitlines()
    marks = [line[:5] for line in lines if line[2:5] in (" ok", " NO", " --")]
    assert marks == [f"{number:>2} ok" for number in range(1, 8)]
    assert ports.free(place.port)
    assert ports.free(place.port + 1)
    assert (place.home / "quickstart.json").stat().st_mode & 0o077 == 0
    told = place.told()
    assert told.keys() == {
        "base_url", "operator_key", "gateway_key", "admin", "customers", "stripe",
        "database_url", "broker_url",
    }  # fmt: skip
    assert told["stripe"] == {"mode": "simulator", "url": f"http://127.0.0.1:{place.port + 1}"}
    assert [each["name"] for each in told["customers"]] == ["Acme", "Globex"]


def a_second_start_finds_its_state_and_a_killed_one_is_recovered(
    place: Place, serving: Callable[[], subprocess.Popen[str]]
) -> subprocess.Popen[str]:
    before = place.told()
    first = serving()
    other = place.run("--once")
    assert other.returncode == 1
    assert "is running in" in other.stderr
    assert "Traceback" not in other.stderr
    assert place.told() == before  # the one that runs keeps its file

    first.kill()
    first.wait()
    second = serving()

    told = place.told()
    assert told["operator_key"] == before["operator_key"]
    check = urllib3.request(
        "POST",
        f"{told['base_url']}/api/v1/check",
        json={"key": told["customers"][0]["api_key"], "meter": "api.calls"},
        headers={"Authorization": f"Bearer {told['gateway_key']}"},
    )
    assert check.status == 200
    return second


def ctrl_c_stops_everything(place: Place, process: subprocess.Popen[str]) -> None:
    noted = json.loads((place.home / "processes.json").read_text())
    assert {each["name"] for each in noted} == {"stripe-simulator", "web", "worker", "beat"}

    process.send_signal(signal.SIGINT)

    assert process.wait(60) == 0
    assert ports.free(place.port)
    assert ports.free(place.port + 1)
    for each in noted:
        with pytest.raises(ProcessLookupError):
            os.killpg(each["pid"], 0)


def test_a_port_in_use_is_one_clear_sentence(place: Place) -> None:
    with socket.create_server((ports.HOST, place.port)):
        done = place.run()

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"Port {place.port}, which Farebox needs, is in use")
