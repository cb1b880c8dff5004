"""Ports for servers that tests start."""

from __future__ import annotations

import secrets

from config.quickstart import ports

_FIRST, _LAST = 10_000, 32_000  # below those that systems lend to connections, which come and go


def free_port(*, neighbours: int = 0) -> int:
    """A port that is free now, and so many behind it; nobody's connection takes it meanwhile.

    By chance, and not by the tests' own: that is the same in each of their workers.
    """
    while True:
        port = _FIRST + secrets.randbelow(_LAST - _FIRST - neighbours)
        if all(ports.free(port + each) for each in range(neighbours + 1)):
            return port
