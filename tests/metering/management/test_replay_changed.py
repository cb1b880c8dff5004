"""`manage.py replay` of a file that somebody writes to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROW = "2026-11-01T00:00:00Z,5,1\n"
MANY = 100_000  # two MiB and more


@contextmanager
def somebody_answers(asked: Callable[[str, bytes], None]) -> Iterator[str]:
    """A server that takes all events, and has all customers; `asked` is told of each request."""

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked(self.path, b"")
            self._answer({"data": [{"status": "active"}]})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            asked(self.path, body)
            taken = {"accepted": len(json.loads(body)), "duplicates": 0, "rejected": []}
            self._answer(taken)

        def _answer(self, body: object) -> None:
            sent = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nothing is said."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "trace.csv"
    found.write_text(HEAD + ROW * MANY)
    return found


def change(file: Path) -> None:
    """Another number in the last row."""
    with file.open("r+b") as found:
        found.seek(-len("5,1\n"), 2)
        found.write(b"6")


def replay(file: Path, *options: str) -> None:
    preset = ("--preset", "llm-trace", "--key", "fb_gw_x", "--backfill")
    call_command("replay", str(file), *preset, *options)


def test_nothing_is_played_of_what_changes_meanwhile(file: Path) -> None:
    sent: list[int] = []

    def asked(_path: str, body: bytes) -> None:
        if not sent:
            change(file)
        sent.extend(event["data"]["quantity"] for event in json.loads(body))

    with (
        somebody_answers(asked) as address,
        pytest.raises(CommandError, match=r"changed since .* nothing was played of what changed"),
    ):
        replay(file, "--gateway", address)
    assert 0 < len(sent) < MANY
    assert set(sent) == {6}


def test_nothing_is_played_of_a_file_that_changed_before(file: Path) -> None:
    paths = []

    def asked(path: str, _body: bytes) -> None:
        paths.append(path)
        change(file)

    with (
        somebody_answers(asked) as address,
        pytest.raises(CommandError, match=r"changed since .* Nothing of it was played"),
    ):
        replay(file, "--gateway", address, "--operator-key", "fb_op_x")
    assert paths == ["/api/v1/customers/replay-1"]
