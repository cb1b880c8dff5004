"""Real gateways as ordinary processes on loopback, set up by the very examples that users copy."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT
from tests.free_ports import free_port

EXAMPLES = ROOT / "clients" / "gateways"
# A folder with the binaries, looked into before PATH.
WHERE = "FAREBOX_TEST_GATEWAYS"
_START_S = 30


@dataclass(frozen=True, slots=True)
class Placement:
    """Where everything listens, and the gateway's key."""

    listen: int
    farebox: int
    app: int
    key: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A gateway: its program, its example, and what a user would change in that."""

    program: str
    example: str
    changes: Callable[[Placement], dict[str, str]]
    command: Callable[[Path, Path], list[str]]
    frame: str = "{example}"

    def configuration(self, place: Placement) -> str:
        """The example with its placeholders filled in; every one of them must be there."""
        text = (EXAMPLES / self.example).read_text()
        for placeholder, value in self.changes(place).items():
            assert placeholder in text, f"{self.example} has no {placeholder}"
            text = text.replace(placeholder, value)
        return self.frame.replace("{example}", text)


def _addresses(place: Placement) -> dict[str, str]:
    return {
        "fb_gw_CHANGE_ME": place.key,
        "127.0.0.1:8402": f"127.0.0.1:{place.farebox}",
        "127.0.0.1:3000": f"127.0.0.1:{place.app}",
    }


def _nginx(place: Placement) -> dict[str, str]:
    return _addresses(place) | {"listen 8080;": f"listen 127.0.0.1:{place.listen};"}


def _caddy(place: Placement) -> dict[str, str]:
    return _addresses(place) | {"\n:8080 {": f"\n:{place.listen} {{\n\tbind 127.0.0.1"}


def _envoy(place: Placement) -> dict[str, str]:
    return {
        "fb_gw_CHANGE_ME": place.key,
        "address: 0.0.0.0, port_value: 8080": f"address: 127.0.0.1, port_value: {place.listen}",
        "port_value: 8402": f"port_value: {place.farebox}",
        "port_value: 3000": f"port_value: {place.app}",
    }


def _run_nginx(program: Path, config: Path) -> list[str]:
    return [str(program), "-p", str(config.parent), "-e", "stderr", "-c", str(config)]


def _run_caddy(program: Path, config: Path) -> list[str]:
    return [str(program), "run", "--adapter", "caddyfile", "--config", str(config)]


def _run_envoy(program: Path, config: Path) -> list[str]:
    quiet = ["--log-level", "warning", "--concurrency", "1", "--use-dynamic-base-id"]
    return [str(program), *quiet, "--config-path", str(config)]


# One process without a master, and all its files in one folder.
_NGINX_FRAME = """
daemon off; master_process off; pid nginx.pid;
events {}
http {
access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
uwsgi_temp_path uwsgi; scgi_temp_path scgi;
{example}
}
"""
_CADDY_FRAME = "{\n\tadmin off\n\tpersist_config off\n}\n\n{example}"
KINDS = {
    "nginx": Kind("nginx", "nginx/farebox.conf", _nginx, _run_nginx, _NGINX_FRAME),
    "nginx-accel": Kind("nginx", "nginx-accel/farebox.conf", _nginx, _run_nginx, _NGINX_FRAME),
    "caddy": Kind("caddy", "caddy/Caddyfile", _caddy, _run_caddy, _CADDY_FRAME),
    "envoy": Kind("envoy", "envoy/envoy.yaml", _envoy, _run_envoy),
}


def find(program: str) -> Path | None:
    """The program in FAREBOX_TEST_GATEWAYS, on PATH, or where Debian keeps servers."""
    folders = [os.environ.get(WHERE, ""), os.environ.get("PATH", ""), "/usr/sbin"]
    found = shutil.which(program, path=os.pathsep.join(filter(None, folders)))
    return Path(found) if found else None


@contextmanager
def running(kind: Kind, *, home: Path, farebox: int, app: int, key: str) -> Iterator[int]:
    """A gateway of that kind; yields the port that it listens on."""
    program = find(kind.program)
    assert program is not None
    place = Placement(free_port(), farebox, app, key)
    config = home / Path(kind.example).name
    config.write_text(kind.configuration(place))
    environment = os.environ | {"HOME": str(home), "XDG_DATA_HOME": str(home)}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            kind.command(program, config), cwd=home, env=environment, stdout=log, stderr=log
        )
    try:
        _await(place.listen, process, log=home / "log")
        yield place.listen
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:  # it waits for connections of a client to end
            process.kill()
            process.wait(5)


def _await(port: int, process: subprocess.Popen[bytes], *, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(errors="replace")[-2_000:]
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)  # between two looks: there is no other sign of a port that opens
        else:
            return
    raise AssertionError(f"the gateway did not start: {log.read_text(errors='replace')[-2_000:]}")
