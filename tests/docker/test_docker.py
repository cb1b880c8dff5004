"""The image and the compose file: no engine runs in the tests, so they are held to rules."""

from __future__ import annotations

import itertools
import re
import subprocess
from typing import Any

import pytest
import yaml

from config import environment
from tests.architecture.sources import ROOT

DOCKER = ROOT / "docker"
# Read by compose.yaml itself, not by Farebox.
COMPOSE_ONLY = {
    *("POSTGRES_PASSWORD", "RABBITMQ_PASSWORD"),
    *("FAREBOX_WEB_PORT", "FAREBOX_GATE_PORT", "FAREBOX_VERSION"),
}
ROLES = {"migrate", "web", "gate", "worker", "beat"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    loaded = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = loaded["services"]
    return found


def _instructions(stage: int) -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", (DOCKER / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    starts = [i for i, line in enumerate(lines) if line.startswith("FROM ")] + [len(lines)]
    pairs = [line.split(None, 1) for line in lines[starts[stage] : starts[stage + 1]]]
    return [(name, rest) for name, rest in pairs]


def test_everything_runs_that_farebox_is_made_of(services: dict[str, Any]) -> None:
    assert services.keys() == ROLES | {"postgres", "rabbitmq"}
    for role in ROLES:
        assert services[role]["command"] == [role]


def test_every_role_has_its_case_in_the_entrypoint() -> None:
    script = (DOCKER / "entrypoint.sh").read_text(encoding="utf-8")
    cases = set(re.findall(r"^    (\w+)\) ", script, re.MULTILINE))
    assert cases == ROLES
    assert subprocess.run(["sh", "-n", DOCKER / "entrypoint.sh"], check=False).returncode == 0


def test_the_image_runs_as_nobody_of_importance() -> None:
    users = [rest for name, rest in _instructions(1) if name == "USER"]
    assert users == ["10001:10001"]


def test_the_image_installs_what_was_pinned_and_names_no_index() -> None:
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    assert "--require-hashes" in text
    assert "index-url" not in text
    assert not re.search(r"https?://(?!127\.0\.0\.1)", text)


def test_what_the_image_copies_reaches_the_builder() -> None:
    kept = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copied = {
        word
        for name, rest in _instructions(0)
        if name == "COPY"
        for word in rest.split()[:-1]
        if not word.startswith("--")
    }
    assert copied == kept
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_every_service_is_checked_for_health(services: dict[str, Any]) -> None:
    image_has_one = any(name == "HEALTHCHECK" for name, _ in _instructions(1))
    unchecked = [
        name
        for name, service in services.items()
        if "healthcheck" not in service and not (name in ROLES and image_has_one)
    ]
    assert unchecked == []


def test_nothing_starts_before_what_it_needs(services: dict[str, Any]) -> None:
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for role in ROLES - {"migrate"}:
        needed = services[role]["depends_on"]
        assert needed["migrate"] == {"condition": "service_completed_successfully"}
        assert needed["rabbitmq"] == {"condition": "service_healthy"}


def test_containers_may_do_no_more_than_they_must(services: dict[str, Any]) -> None:
    for role in ROLES:
        assert services[role]["cap_drop"] == ["ALL"]
        assert services[role]["read_only"] is True


def _named_variables(name: str) -> set[str]:
    text = (DOCKER / name).read_text(encoding="utf-8")
    if name.endswith(".env"):
        return set(re.findall(r"^([A-Z][A-Z0-9_]*)=", text, re.MULTILINE))
    return set(re.findall(r"\b(?:FAREBOX|STRIPE)_[A-Z0-9_]+\b", text)) | set(
        re.findall(r"\$\{([A-Z][A-Z0-9_]+)", text)
    )


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", "entrypoint.sh", "example.env"])
def test_variables_are_ones_that_exist(name: str) -> None:
    known = {setting.name for setting in environment.declared()} | COMPOSE_ONLY
    assert _named_variables(name) - known == set()


def test_the_example_explains_every_variable_it_sets() -> None:
    lines = (DOCKER / "example.env").read_text(encoding="utf-8").splitlines()
    for before, line in itertools.pairwise(lines):
        if "=" in line and not line.startswith("#"):
            assert before.startswith("#") or "=" in before, f"{line} has no comment above it"


def test_the_example_gives_no_secret_away() -> None:
    values = dict(
        re.findall(
            r"^([A-Z0-9_]+)=(.*)$", (DOCKER / "example.env").read_text("utf-8"), re.MULTILINE
        )
    )
    secrets = {setting.name for setting in environment.declared() if setting.secret}
    assert {
        name: values.get(name, "") for name in secrets | {"POSTGRES_PASSWORD"}
    } == dict.fromkeys(secrets | {"POSTGRES_PASSWORD"}, "")


def test_compose_needs_every_secret_it_uses(services: dict[str, Any]) -> None:
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    for password in ("POSTGRES_PASSWORD", "RABBITMQ_PASSWORD"):
        assert re.search(rf"\$\{{{password}(?!:\?)", text) is None, "an empty one must be refused"
