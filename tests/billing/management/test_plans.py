"""`manage.py plans`: out, compared and in again."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command

from billing.models import Plan
from tests.factories.billing import a_plan, calls
from tests.factories.metering import make_meter

pytestmark = pytest.mark.django_db


def run(*words: str) -> str:
    out = io.StringIO()
    call_command("plans", *words, stdout=out)
    return out.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    a_plan(calls(make_meter(key="api.calls")), key="pro", name="Pro")
    path = tmp_path / "plans.yaml"
    run("export", str(path))
    return path


def test_out_and_in_again_changes_nothing(file: Path) -> None:
    assert yaml.safe_load(file.read_text()) == json.loads(run("export", "--json"))
    assert run("export") == file.read_text()
    assert "Nothing differs." in run("diff", str(file))
    assert json.loads(run("apply", str(file), "--json"))["changed"] == 0


def test_a_difference_is_shown_then_applied(file: Path) -> None:
    file.write_text(file.read_text().replace("fee: 2000", "fee: 2500"))
    with pytest.raises(SystemExit) as ended:
        run("diff", str(file))
    assert ended.value.code == 1
    assert Plan.objects.get().versions.count() == 1

    said = run("apply", str(file))

    assert "~ pro: change (version 2)\n    fee: 2000 -> 2500\n1 of 1 plans differ." in said
    assert "Nothing differs." in run("diff", str(file))


def test_drafts_and_archiving(file: Path) -> None:
    file.write_text("plans: {new: {fee: 1}}")
    done: dict[str, Any] = json.loads(
        run("apply", str(file), "--draft", "--archive-missing", "--json")
    )
    assert [(each["key"], each["action"]) for each in done["plans"]] == [
        ("new", "create"),
        ("pro", "archive"),
    ]
    assert Plan.objects.get(key="new").versions.get().state == "draft"


@pytest.mark.parametrize("text", ["plans: [", "plans: {pro: {fee: -1}}", "\x00", "plans: 5"])
def test_a_file_that_is_none_is_refused_in_one_sentence(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(CommandError):
        run("apply", str(file))
    assert Plan.objects.get().versions.count() == 1
    with pytest.raises(CommandError):
        run("diff", str(file.parent / "nothing.yaml"))
