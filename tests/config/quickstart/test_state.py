"""The file of secrets, and the ports."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from config.quickstart import ports, state


def test_what_is_remembered_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    assert state.read(file) == {}

    state.write(file, {"key": "fb_op_1"})

    assert state.read(file) == {"key": "fb_op_1"}
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_a_damaged_file_is_said_in_a_sentence(tmp_path: Path, text: str) -> None:
    file = tmp_path / "state.json"
    file.write_text(text)

    with pytest.raises(state.StateUnreadable, match="is damaged"):
        state.read(file)


def test_secrets_are_made_once() -> None:
    made = state.with_secrets({})

    assert state.with_secrets(made) == made
    assert state.with_secrets({}) != made
    assert len(made["secret_key"]) >= 50
    assert made["webhook_secret"].startswith("whsec_")


def test_a_port_that_is_taken_is_named_with_the_way_to_choose_another() -> None:
    with socket.create_server((ports.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        assert not ports.free(port)

        with pytest.raises(ports.PortTaken, match=rf"Port {port}, which Farebox needs.*PORT=1"):
            ports.insist_free(port, purpose="Farebox", remedy="choose another: PORT=1")

    assert ports.free(port)
    ports.insist_free(port, purpose="Farebox", remedy="none")
