"""metering.management.pinned: a file is the same each time, or is refused where it is not."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from metering.domain.traces import PRESETS
from metering.management.pinned import FileChanged, Pinned, pin
from metering.management.recordings import Trace

MIB = 1 << 20
HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROW = "2026-11-01T00:00:00Z,5,1\n"
each_size = pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB])


def a_file(tmp_path: Path, size: int) -> tuple[Path, bytes]:
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    path = tmp_path / "trace"
    path.write_bytes(content)
    return path, content


@each_size
def test_what_did_not_change_is_read_again(tmp_path: Path, size: int) -> None:
    path, content = a_file(tmp_path, size)
    pinned = pin(path)
    assert pinned.digest == hashlib.sha256(content).hexdigest()[:16]
    for _ in range(2):
        with pinned.open("rb") as file:
            assert file.read() == content
    with pinned.open("rb") as file:
        assert file.seek(-min(7, size), os.SEEK_END) == max(size - 7, 0)
        assert file.read() == content[-7:]
        assert file.seek(size // 2) == size // 2
        assert file.seek(0, os.SEEK_CUR) == file.tell() == size // 2
        assert file.read(10) == content[size // 2 : size // 2 + 10]
    os.utime(path, (1, 1))  # it was touched, and is the same
    pinned.refuse_changed()


def longer(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def shorter(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def other(path: Path) -> None:
    """The last byte is another one, and it does not look changed."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read()
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(b"y" + content[1:])


CHANGES: list[Callable[[Path], None]] = [longer, shorter, other, replaced]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("size", [2, MIB, 2 * MIB + 5])
def test_no_changed_byte_is_handed_out(
    tmp_path: Path, size: int, change: Callable[[Path], None]
) -> None:
    path, content = a_file(tmp_path, size)
    pinned = pin(path)
    change(path)
    with pytest.raises(FileChanged, match="trace has changed since"):
        read(pinned, content)
    if change is not other:
        with pytest.raises(FileChanged):
            pinned.refuse_changed()


def read(pinned: Pinned, content: bytes) -> None:
    """To the end, with a look at each piece."""
    with pinned.open("rb") as file:
        at = 0
        while piece := file.read(1_000):
            assert content[at : at + len(piece)] == piece
            at += len(piece)


def test_a_call_that_changed_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(HEAD + ROW * 100_000)
    trace = Trace(pin(path), "csv", PRESETS["llm-trace"])
    calls = trace.calls()
    told = [next(calls)]
    path.write_text(HEAD + ROW * 99_999 + ROW.replace("5,1", "6,1"))
    with pytest.raises(FileChanged):
        told.extend(calls)
    assert {each.input for each in told} == {5}


def test_a_parquet_file_that_changed_is_refused_as_such(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    columns = {"TIMESTAMP": ["2026-11-01"], "ContextTokens": [5], "GeneratedTokens": [1]}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    trace = Trace(pin(path), "parquet", PRESETS["llm-trace"])
    assert [each.input for each in trace.calls()] == [5]
    changed = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({**columns, "ContextTokens": [6]}), changed)
    path.write_bytes(changed.getvalue())
    with pytest.raises(FileChanged):
        list(trace.calls())
