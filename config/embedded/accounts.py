"""Which operating system account runs the server: PostgreSQL refuses root.

An ordinary user runs it as themselves. Root lends it an account that exists already and owns
nothing of value; none is created, and no folder's permissions are loosened to let it in.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_CANDIDATES = ("postgres", "nobody", "daemon")


@dataclass(frozen=True, slots=True)
class Account:
    """An account that the server and initdb are started as."""

    name: str
    uid: int
    gid: int

    @property
    def borrowed(self) -> bool:
        """Whether this is another account than our own."""
        return self.uid != os.geteuid()

    def can_enter(self, folder: Path) -> bool:
        """Whether the account may look things up in the folder, its parents included."""
        return self._try(["/bin/sh", "-c", 'test -x "$0"', str(folder)])

    def can_run(self, program: Path) -> bool:
        """Whether the account may execute the program (which answers `--version`)."""
        return self._try([str(program), "--version"])

    def _try(self, command: Sequence[str]) -> bool:
        try:
            done = self.run(command, timeout_s=20)
        except OSError:
            return False
        return done.returncode == 0

    def run(self, command: Sequence[str], *, timeout_s: int) -> subprocess.CompletedProcess[str]:
        """Run a command as this account, from `/`, with an environment of our own."""
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd="/",
            env=plain_environment(),
            user=self.uid if self.borrowed else None,
            group=self.gid if self.borrowed else None,
            extra_groups=[] if self.borrowed else None,
        )

    def give(self, path: Path) -> None:
        """Make the path the account's own."""
        if self.borrowed:
            os.chown(path, self.uid, self.gid)


def plain_environment() -> dict[str, str]:
    """English messages and UTC, and none of the caller's PG* variables."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def server_account(data: Path) -> Account | None:
    """The account to use for this data folder, or None where root finds no other account.

    Data that exists decides: root starts it as its owner.
    """
    if os.geteuid() != 0:
        return _by_number(os.geteuid(), os.getegid())
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return _by_number(owner.st_uid, owner.st_gid)
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    return None


def _by_number(uid: int, gid: int) -> Account:
    try:
        return Account(pwd.getpwuid(uid).pw_name, uid, gid)
    except KeyError:  # containers run under numbers that have no name
        return Account(str(uid), uid, gid)
