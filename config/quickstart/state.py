"""What quickstart remembers from one run to the next: secrets, keys, passwords.

One file that its owner alone may read, written whole or not at all.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

State = dict[str, Any]


class StateUnreadable(Exception):
    """The file that quickstart keeps its secrets in is damaged."""


def read(path: Path) -> State:
    """What is remembered; nothing where there is no file. Raises StateUnreadable."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise StateUnreadable(
            f"{path} is damaged: it is not JSON. Move it away; new keys are then made."
        ) from error
    if not isinstance(found, dict):
        raise StateUnreadable(f"{path} is damaged: it holds no object. Move it away.")
    return found


def write(path: Path, state: State) -> None:
    """Remember, for the owner's eyes alone."""
    partial = path.with_suffix(".new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(file.fileno(), 0o600)
        json.dump(state, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def with_secrets(state: State) -> State:
    """The state with every secret of the installation's own that was not there yet."""
    made = {
        "secret_key": secrets.token_urlsafe(48),
        "webhook_secret": "whsec_" + secrets.token_hex(24),
    }
    return {**made, **state}
