"""The two lock files: pinned, hashed, in agreement, and without a word on where from."""

from __future__ import annotations

import re
import tomllib

from tests.architecture.sources import ROOT


def _pins(lock: str) -> dict[str, str]:
    text = (ROOT / lock).read_text(encoding="utf-8")
    return dict(
        re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", text, re.MULTILINE | re.IGNORECASE)
    )


def test_developers_run_what_users_run() -> None:
    runtime, development = _pins("requirements.lock"), _pins("requirements-dev.lock")
    assert len(runtime) > 20
    assert {name: development.get(name) for name in runtime} == runtime


def _declared() -> tuple[set[str], set[str]]:
    """Names of what is needed to run, and to develop."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    runtime, development = project["dependencies"], project["optional-dependencies"]["dev"]
    names = [{re.split(r"[\[~=<>; ]", each)[0] for each in part} for part in (runtime, development)]
    return names[0], names[1]


def test_every_declared_dependency_is_pinned() -> None:
    runtime, development = _declared()
    assert runtime - _pins("requirements.lock").keys() == set()
    assert development - _pins("requirements-dev.lock").keys() == set()


def test_every_declared_dependency_has_its_reason() -> None:
    reasons = (ROOT / "docs" / "decisions" / "0002-dependencies.md").read_text(encoding="utf-8")
    first_cells = " ".join(re.findall(r"^\| ([^|]+) \|", reasons, re.MULTILINE))
    told = set(re.split(r"\[[\w,]+\]|[,\s]+", first_cells))
    runtime, development = _declared()
    assert (runtime | development) - told == set()


def test_locks_name_no_address() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / lock).read_text(encoding="utf-8")
        assert "://" not in text
        assert "index-url" not in text
        pins = len(re.findall(r"^\S+==", text, re.MULTILINE))
        hashed = len(re.findall(r"^\S+==[^\n]*\\\n\s+--hash=sha256:", text, re.MULTILINE))
        assert hashed == pins
