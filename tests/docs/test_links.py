"""Documents name only what there is: files, headings, make targets, variables, problem codes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from accounts.domain.problem_types import PROBLEM_TYPES
from config.celery import BEAT
from config.environment import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / app / "README.md" for app in ("accounts", "metering", "billing")),
    ]
)
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir()}
# Words in code that look like problem codes: members, states and fields have no problem's name.
_STATUS_AND_CODE = re.compile(r"\b(?:400|401|402|403|404|405|409|413|415|422|429|500|503) `(\w+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_VARIABLE = re.compile(r"\b(?:FAREBOX|STRIPE)_[A-Z_]+\b")
_MADE_BY_MAKE = {
    "FAREBOX_TEST_DATABASE_URL",
    "FAREBOX_TEST_GATEWAYS",
    "FAREBOX_TEST_PROFILE",
}  # of the tests alone
_ONLY_IN_COMPOSE = {"FAREBOX_WEB_PORT", "FAREBOX_GATE_PORT", "FAREBOX_VERSION"}

_NOT_DESCRIBED = {"GET /healthz", "GET /readyz", "GET /metrics", "POST /stripe/webhook"}

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def _prose(page: Path) -> str:
    return _FENCED.sub("", page.read_text())


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    texts = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
    return set(texts)


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(_prose(page)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), f"{target} is not there"
        assert found.is_relative_to(ROOT), f"{target} leaves the project"
        if anchor:
            assert anchor in _anchors(found), f"{target}: there is no such heading"


def _paths(page: Path) -> Iterator[str]:
    for code in _CODE.findall(_prose(page)):
        for word in code.split():
            first = word.split("/", 1)[0]
            if "/" in word and first in FOLDERS and not re.search(r"[*<>{…]", word):
                yield word


@pages
def test_paths_exist(page: Path) -> None:
    for path in _paths(page):
        assert (ROOT / path.rstrip("/.,:")).exists(), f"{path} is not there"


@pages
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    named = set(re.findall(r"`make ([a-z]+)", text)) | set(
        re.findall(r"^make ([a-z]+)", text, re.MULTILINE)
    )
    assert named <= targets


@pages
def test_variables_are_declared(page: Path) -> None:
    known = SETTINGS.keys() | _MADE_BY_MAKE | _ONLY_IN_COMPOSE
    named = {name for name in _VARIABLE.findall(page.read_text()) if not name.endswith("_")}
    assert named <= known


@pages
def test_problem_codes_exist(page: Path) -> None:
    assert set(_STATUS_AND_CODE.findall(page.read_text())) <= PROBLEM_TYPES.keys()


@pages
def test_calls_are_in_the_api(page: Path) -> None:
    described = json.loads((ROOT / "docs" / "openapi.json").read_text())["paths"]
    known = {
        f"{method.upper()} {_shape(path.removeprefix('/api/v1'))}"
        for path, methods in described.items()
        for method in methods
    } | _NOT_DESCRIBED
    named = re.findall(r"\b(GET|POST|PUT|PATCH|DELETE) (/[\w\-/{}.…]*)", page.read_text())
    calls = {f"{method} {_shape(path.removeprefix('/api/v1'))}" for method, path in named}
    assert {call for call in calls if not call.split()[1].startswith("/_simulator")} <= known


def _shape(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path).rstrip("/.")


@pages
def test_tasks_are_in_the_beat_table(page: Path) -> None:
    named = re.findall(r"`((?:accounts|metering|billing|config)\.[a-z_]+)`", page.read_text())
    modules = {
        f"{path.parent.name}.{path.stem}" for app in FOLDERS for path in ROOT.glob(f"{app}/*")
    }
    packages = {name for name in modules if name.split(".")[0] in FOLDERS}
    assert {name for name in named if name not in packages} <= BEAT.keys()


@pages
def test_commands_exist(page: Path) -> None:
    commands = {path.stem for path in ROOT.glob("*/management/commands/*.py")}
    commands |= {"check", "createsuperuser", "makemigrations", "migrate", "shell"}  # Django's own
    assert set(re.findall(r"manage\.py ([a-z_]+)", page.read_text())) <= commands


def test_the_guide_of_the_gate_names_every_setting_of_it() -> None:
    text = (ROOT / "docs" / "gate.md").read_text()
    for name in SETTINGS:
        if name.startswith(("FAREBOX_GATE_", "FAREBOX_EVENT_")):
            assert name in text


def test_the_guide_to_stripe_names_every_event_that_is_handled() -> None:
    from billing.payments.handlers import HANDLERS

    text = (ROOT / "docs" / "stripe.md").read_text()
    assert {name for name in HANDLERS if name not in text} == set()


def test_every_decision_is_in_the_list() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = (folder / "README.md").read_text()
    for page in folder.glob("0*.md"):
        assert f"({page.name})" in listed
        assert page.read_text().count("\n") <= 60, "a decision is one screen"
