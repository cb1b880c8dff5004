"""A tour in Markdown as a script: its commands are run, its answers compared."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FENCE = re.compile(r"^```(?P<kind>bash|json)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_MARK = "=== the next block of the tour ==="
ANYTHING = "…"
TIMEOUT_S = 90
LOOK_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Block:
    """One block of commands and the answers that are shown after it, the last of its answers."""

    commands: str
    shown: list[Any]


def blocks_of(markdown: str) -> list[Block]:
    """The fenced bash blocks with the fenced json blocks that follow each."""
    blocks: list[Block] = []
    for fence in _FENCE.finditer(markdown):
        if fence["kind"] == "bash":
            blocks.append(Block(fence["text"], []))
        else:
            blocks[-1].shown.append(json.loads(fence["text"]))
    return blocks


def section(markdown: str, title: str) -> str:
    """The part of a page under a heading of the second level."""
    found = re.search(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", markdown, re.DOTALL | re.MULTILINE
    )
    assert found is not None, f"there is no section {title!r}"
    return found[1]


def play(
    blocks: list[Block], *, folder: Path, meanwhile: Callable[[], None] | None = None
) -> list[list[Any]]:
    """Run all blocks in one shell, in the folder; the JSON lines that each of them printed.

    `meanwhile` is called again and again until the shell is done: what workers would do.
    """
    script = "".join(f"{block.commands}\necho '{_MARK}'\n" for block in blocks)
    said, complained = folder / "said", folder / "complained"
    with said.open("wb") as out, complained.open("wb") as err:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script], cwd=folder, stdout=out, stderr=err
        )
        deadline = time.monotonic() + TIMEOUT_S
        while shell.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                shell.wait(LOOK_EVERY_S)
            if meanwhile is not None:
                meanwhile()
        shell.kill()
    text = said.read_text()
    assert shell.wait() == 0, f"the tour stopped: {complained.read_text()}\n{text[-2_000:]}"
    printed = text.split(f"{_MARK}\n")[: len(blocks)]
    return [[json.loads(line) for line in part.splitlines() if line.strip()] for part in printed]


def differences(shown: Any, answer: Any, *, at: str = "$") -> list[str]:
    """Where an answer is not as it is shown; it may have more members than are shown."""
    match shown:
        case dict():
            if not isinstance(answer, dict):
                return [f"{at} is {answer!r}"]
            missing = [f"{at}.{name} is missing" for name in shown if name not in answer]
            known = [name for name in shown if name in answer]
            return missing + [
                each
                for name in known
                for each in differences(shown[name], answer[name], at=f"{at}.{name}")
            ]
        case list():
            if not isinstance(answer, list) or len(answer) != len(shown):
                return [f"{at} is {answer!r}"]
            pairs = enumerate(zip(shown, answer, strict=True))
            return [each for n, (a, b) in pairs for each in differences(a, b, at=f"{at}[{n}]")]
        case str() if ANYTHING in shown and isinstance(answer, str):
            pattern = ".*".join(re.escape(part) for part in shown.split(ANYTHING))
            return [] if re.fullmatch(pattern, answer) else [f"{at} is {answer!r}"]
        case _:
            same = shown == answer and type(shown) is type(answer)
            return [] if same else [f"{at} is {answer!r}, shown is {shown!r}"]
