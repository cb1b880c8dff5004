"""Whether a port is free, said before anything is started on it."""

from __future__ import annotations

import errno
import socket

HOST = "127.0.0.1"


class PortTaken(Exception):
    """Something else listens there; the sentence says how to choose another."""


def free(port: int) -> bool:
    """Whether a server could listen on the port of this machine now."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
            tried.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise PortTaken(f"Port {port} cannot be used: {error.strerror}.") from error
    return True


def insist_free(port: int, *, purpose: str, remedy: str) -> None:
    """Raise PortTaken where the port is taken."""
    if not free(port):
        raise PortTaken(
            f"Port {port}, which {purpose} needs, is in use by another program; {remedy}."
        )
