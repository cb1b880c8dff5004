"""Making .venv: once, again, after an interruption, and with the wrong Python."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from config import bootstrap

BOOTSTRAP = Path(bootstrap.__file__)


def _run(project: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(project / "config" / "bootstrap.py"), *options],
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that needs no packages, so that nothing has to be downloaded."""
    (tmp_path / "config").mkdir()
    shutil.copy(BOOTSTRAP, tmp_path / "config")
    for lock in (bootstrap.RUNTIME, bootstrap.DEVELOPMENT):
        (tmp_path / lock).write_text(f"# {lock}\n")
    return tmp_path


def test_old_interpreters_understand_it_well_enough_to_be_refused() -> None:
    ast.parse(BOOTSTRAP.read_text(encoding="ascii"), feature_version=(3, 4))


def test_an_old_python_is_told_what_to_do(project: Path) -> None:
    pretend = (
        "import runpy, sys; sys.version_info = (3, 9, 2); sys.version = '3.9.2 (main)';"
        "runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", pretend, str(project / "config" / "bootstrap.py")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stdout == (
        "Farebox needs Python 3.11 or newer; this is 3.9.2. Install a newer one, or name it: "
        "make PYTHON=/path/to/python3.12 run\n"
    )
    assert done.stderr == ""


@pytest.mark.slow
def test_makes_the_environment_once(project: Path) -> None:
    first = _run(project)
    assert first.returncode == 0, first.stdout
    assert "Making .venv" in first.stdout

    again = _run(project)
    assert (again.returncode, again.stdout) == (0, "")

    # A changed lock is installed into the environment that is there.
    (project / bootstrap.RUNTIME).write_text("# changed\n")
    changed = _run(project)
    assert "Making" not in changed.stdout
    assert "Installing" in changed.stdout
    assert _run(project).stdout == ""

    # A developer's packages include a user's.
    development = _run(project, "--dev")
    assert development.returncode == 0
    stamp = json.loads((project / ".venv" / "farebox-installed.json").read_text())
    assert stamp.keys() == {"folder", bootstrap.RUNTIME, bootstrap.DEVELOPMENT}

    # What cannot be installed is one sentence.
    whole = (project / bootstrap.RUNTIME).read_text()
    (project / bootstrap.RUNTIME).write_text("nothing-at-all @ file:///nowhere/at-all.whl\n")
    refused = _run(project)
    assert refused.returncode == 1
    assert refused.stdout.splitlines()[-1].startswith(
        "The packages of requirements.lock could not be installed: ERROR:"
    )

    # An installation that did not end may have left half a package: all is made anew.
    (project / bootstrap.RUNTIME).write_text(whole + "# mended\n")
    assert (project / ".venv" / "farebox-installing").exists()
    recovered = _run(project)
    assert recovered.returncode == 0
    assert "Making .venv" in recovered.stdout
    assert not (project / ".venv" / "farebox-installing").exists()


def test_a_full_disk_is_said_as_such() -> None:
    sentence = bootstrap.reason("It failed", "ERROR: [Errno 28] No space left on device")
    assert sentence.startswith("The disk that holds ")
    assert sentence.endswith("Farebox's packages need 700 MB.")
