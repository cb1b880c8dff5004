"""A file that is read several times and must be the same each time."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Literal

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BLOCK: Final = 1 << 20


class FileChanged(Exception):
    """A file is not any more what it was when it was read first."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} has changed since it was read first.")


@dataclass(frozen=True, slots=True)
class Pinned:
    """A file as it was. `digest` names its content in 16 characters.

    `blocks` are digests of its pieces of a MiB, of which a last one is of nothing: 16 bytes each.
    """

    path: Path
    digest: str
    blocks: Sequence[bytes]
    stamp: tuple[int, ...]

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.path.name

    def open(self, mode: Literal["rb"]) -> BinaryIO:  # noqa: ARG002  (as a path is opened)
        """Read it again: no byte is handed out that was another one then, nor one that is new.

        Reading raises FileChanged.
        """
        return io.BufferedReader(_Checked(self))

    def refuse_changed(self) -> None:
        """Raise FileChanged where it has changed. Only where its time or size has, all is read."""
        with self.path.open("rb") as file:
            if _stamp(file) != self.stamp and tuple(map(_digest, _blocks(file))) != self.blocks:
                raise FileChanged(self.path)


def pin(path: Path) -> Pinned:
    """Read a file and keep in mind what it is."""
    whole, blocks = hashlib.sha256(), []
    with path.open("rb") as file:
        stamp = _stamp(file)
        for block in _blocks(file):
            whole.update(block)
            blocks.append(_digest(block))
    return Pinned(path, whole.hexdigest()[:16], tuple(blocks), stamp)


class _Checked(io.RawIOBase):
    """A pinned file, of which a block is compared before anything of it is handed out."""

    def __init__(self, pinned: Pinned) -> None:
        self._pinned = pinned
        self._file = pinned.path.open("rb")
        self._at = 0
        self._block = b""
        self._number = -1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        match whence:
            case os.SEEK_SET:
                self._at = offset
            case os.SEEK_CUR:
                self._at += offset
            case _:
                self._at = self._pinned.stamp[0] + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        number, start = divmod(self._at, _BLOCK)
        if number >= len(self._pinned.blocks):
            return 0
        if number != self._number:
            self._file.seek(number * _BLOCK)
            block = self._file.read(_BLOCK)
            if _digest(block) != self._pinned.blocks[number]:
                raise FileChanged(self._pinned.path)
            self._block, self._number = block, number
        into = memoryview(buffer).cast("B")
        found = self._block[start : start + len(into)]
        into[: len(found)] = found
        self._at += len(found)
        return len(found)

    def close(self) -> None:
        self._file.close()
        super().close()


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """All blocks; the last one is not a whole one, so that what is added to the file is seen."""
    while len(block := file.read(_BLOCK)) == _BLOCK:
        yield block
    yield block


def _digest(block: bytes) -> bytes:
    return hashlib.blake2b(block, digest_size=16).digest()


def _stamp(file: BinaryIO) -> tuple[int, ...]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev
