"""Every answer carries X-Request-Id: the request's own where it is a sane one, else a new one."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Mapping

NAME = b"x-request-id"
_SANE = re.compile(rb"[A-Za-z0-9._:/+=-]{1,200}")


class RequestIds:
    """Hands out ids; those of one process begin alike, and never with what another one's do."""

    __slots__ = ("_numbers", "_start")

    def __init__(self) -> None:
        self._start = b"req_" + secrets.token_hex(10).encode()
        self._numbers = itertools.count()

    def of(self, headers: Mapping[bytes, bytes]) -> bytes:
        """The id of a request with these headers."""
        sent = headers.get(NAME, b"")
        if sent and _SANE.fullmatch(sent):
            return sent
        return b"%s%012x" % (self._start, next(self._numbers))
