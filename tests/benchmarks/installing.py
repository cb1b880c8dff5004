"""Others' programs, in environments of their own that are thrown away afterwards."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_INSTALL_S = 600


class NotInstalled(Exception):
    """The packages cannot be had here; the sentence says why."""


@contextmanager
def environment_with(*packages: str) -> Iterator[Path]:
    """A virtual environment with these packages of PyPI; yields its folder.

    Raises NotInstalled.
    """
    home = Path(tempfile.mkdtemp(prefix="farebox-bench-env-"))
    try:
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, timeout=120)
        _install(home / "bin" / "pip", packages)
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def site_packages(home: Path) -> Path:
    """Where the environment keeps its packages."""
    return next(home.glob("lib/python*/site-packages"))


def versions(home: Path, *names: str) -> str:
    """The versions that were installed, as a person reads them."""
    code = "import sys; from importlib.metadata import version\n"
    code += "print(', '.join(f'{name} {version(name)}' for name in sys.argv[1:]))"
    done = subprocess.run(
        [str(home / "bin" / "python"), "-c", code, *names],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def _install(pip: Path, packages: tuple[str, ...]) -> None:
    command = [str(pip), "install", "--quiet", "--disable-pip-version-check", *packages]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_INSTALL_S
        )
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"pip took longer than {_INSTALL_S} seconds") from error
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise NotInstalled((errors or ["pip failed"])[0][:200])
