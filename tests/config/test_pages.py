"""The public pages, health, metrics and the commands."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.domain.problem_types import PROBLEM_TYPES
from accounts.models import OperatorKey
from accounts.operations.heartbeats import beat
from config import clocks, environment, generated, health
from config.openapi import description, gate_paths
from config.tasks import WORKER
from tests.factories.accounts import Api

pytestmark = pytest.mark.django_db


def test_the_description_is_public_and_has_the_hot_paths(client: Client) -> None:
    answer = client.get("/api/v1/openapi.json")
    assert answer.status_code == 200
    paths = json.loads(answer.content)["paths"]
    for path, operations in gate_paths().items():
        assert set(operations) <= set(paths[path])
    assert "/api/v1/customers" in paths


def test_every_reference_of_the_description_leads_somewhere() -> None:
    text = json.dumps(description())
    shapes = description()["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) <= set(shapes)
    for path, operations in description()["paths"].items():
        for method, operation in operations.items():
            assert operation["responses"].get("default"), (path, method)
            assert operation["summary"], (path, method)


def test_operations_are_named_once() -> None:
    names = [
        operation["operationId"]
        for operations in description()["paths"].values()
        for operation in operations.values()
    ]
    assert len(names) == len(set(names))


def test_the_description_as_a_page(client: Client) -> None:
    page = client.get("/api/docs").content.decode()
    assert "<script" not in page
    assert "style=" not in page
    targets = set(re.findall(r'href="#([^"]+)"', page))
    assert targets <= set(re.findall(r'id="([^"]+)"', page))
    assert "/api/v1/holds/{id}/settle" in page


@pytest.mark.parametrize("code", list(PROBLEM_TYPES))
def test_every_problem_has_its_page(client: Client, code: str) -> None:
    assert PROBLEM_TYPES[code].title in client.get(f"/docs/problems/{code}").content.decode()


def test_what_is_code_in_a_problem_is_shown_as_code(client: Client) -> None:
    page = client.get("/docs/problems/quota_exhausted").content.decode()
    assert "<dd>Upgrade, or wait where <code>retry</code> says that it helps.</dd>" in page
    pages = (client.get(f"/docs/problems/{code}").content.decode() for code in PROBLEM_TYPES)
    assert not any("`" in each for each in pages)


def test_the_list_of_problems_and_one_that_is_none(client: Client) -> None:
    page = client.get("/docs/problems/").content.decode()
    assert all(f"/docs/problems/{code}" in page for code in PROBLEM_TYPES)
    assert client.get("/docs/problems/nothing").status_code == 404


def test_pages_may_load_from_here_only(client: Client) -> None:
    policy = client.get("/sign-in")["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    style = client.get("/static/farebox.css")
    assert b":root" in style.getvalue()
    style.close()
    assert "text/css" in style["Content-Type"]


def test_the_process_lives(client: Client) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}


def readiness(client: Client) -> tuple[int, dict[str, Any]]:
    answer = client.get("/readyz")
    return answer.status_code, answer.json()["checks"]


def test_readiness_needs_a_fresh_heartbeat(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = {name: check for name, check in health.CHECKS.items() if name != "broker"}
    monkeypatch.setattr(health, "CHECKS", checks)
    now = datetime.now(UTC)
    assert readiness(client)[1]["worker"] == "no heartbeat yet"
    beat(WORKER, now=now - timedelta(seconds=100))
    status, checks_seen = readiness(client)
    assert status == 503
    assert checks_seen["worker"].startswith("last heartbeat 1")
    beat(WORKER, now=now)
    assert readiness(client) == (
        200,
        {"database": "ok", "clock": "ok", "migrations": "ok", "worker": "ok"},
    )


@pytest.mark.parametrize(
    ("off_s", "said"),
    [
        (299, "ok"),
        (-299, "ok"),
        (7_200, "ahead of the database's"),
        (-400, "behind the database's"),
    ],
)
def test_readiness_needs_a_clock_near_the_databases(
    client: Client, monkeypatch: pytest.MonkeyPatch, off_s: int, said: str
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(seconds=off_s)

    monkeypatch.setattr(clocks, "datetime", Clock)
    monkeypatch.setattr(health, "CHECKS", {"clock": health.CHECKS["clock"]})
    status, seen = readiness(client)
    assert (status, seen["clock"].endswith(said)) == (200 if said == "ok" else 503, True)


def test_readiness_says_what_is_away_without_details(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise OSError("password=hunter2")

    def odd() -> None:
        raise ValueError("password=hunter2")

    monkeypatch.setattr(health, "CHECKS", {"broker": away, "other": odd})
    assert readiness(client) == (503, {"broker": "unreachable", "other": "failed"})


def test_metrics_count_answers_by_route_and_what_waits(client: Client) -> None:
    Api().get("customers/cus_0000000000000")
    text = client.get("/metrics").content.decode()
    assert 'route="api/v1/customers/<str:reference>",status="401"' in text
    assert 'farebox_waiting{kind="open_holds"} 0.0' in text
    assert 'farebox_waiting{kind="quarantined_events"} 0.0' in text
    assert "farebox_quarantined_bytes 0.0" in text
    assert "cus_0000000000000" not in text


def test_metrics_may_need_a_key(client: Client, settings: Any) -> None:
    settings.METRICS_KEY = "a metrics key"
    assert client.get("/metrics").json()["code"] == "key_missing"
    wrong = client.get("/metrics", headers={"Authorization": "Bearer ä"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "key_unknown")
    right = client.get("/metrics", headers={"Authorization": "Bearer a metrics key"})
    assert right.status_code == 200


def run(name: str, *args: str) -> str:
    out = io.StringIO()
    call_command(name, *args, stdout=out, stderr=io.StringIO())
    return out.getvalue()


@pytest.mark.parametrize("name", ["docs/configuration.md", "docs/problems.md"])
def test_generated_documents_are_fresh(name: str) -> None:
    assert name not in generated.stale_documents(), "run `make docs`"


def test_every_setting_is_listed_and_no_secret_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAREBOX_SECRET_KEY", "hunter2")
    monkeypatch.setenv("FAREBOX_LOG_LEVEL", "INFO")
    for args in ((), ("--markdown",), ("--json",)):
        text = run("configuration", *args)
        assert all(name in text for name in environment.SETTINGS)
        assert "hunter2" not in text
    assert "FAREBOX_LOG_LEVEL = INFO" in run("configuration")
    rows = {row["name"]: row for row in json.loads(run("configuration", "--json"))}
    assert rows["FAREBOX_SECRET_KEY"]["set"] is True
    assert run("configuration", "--markdown") == generated.configuration_markdown()


def test_every_problem_is_listed() -> None:
    assert all(code in run("problems") for code in PROBLEM_TYPES)
    assert run("problems", "--markdown") == generated.problems_markdown()


def test_an_operator_key_from_the_shell() -> None:
    made = run("operator_key", "--name", "ci", "--scopes", "plans:read, plans:write", "--days", "1")
    key = OperatorKey.objects.get()
    assert key.scopes == ["plans:read", "plans:write"]
    assert key.expires_at
    answer = Api(Authorization=f"Bearer {made.strip()}").get("customers")
    assert answer.json()["code"] == "scope_missing"
    for args in (("--scopes", "everything"), ("--days", "0")):
        with pytest.raises(CommandError):
            run("operator_key", "--name", "x", *args)
    assert OperatorKey.objects.count() == 1


def test_documents_are_checked_and_written(settings: Any, tmp_path: Any) -> None:
    settings.BASE_DIR = tmp_path
    with pytest.raises(CommandError, match=r"configuration\.md"):
        run("documents", "--check")
    assert "docs/problems.md" in run("documents")
    assert "as the code makes them" in run("documents", "--check")
    assert json.loads((tmp_path / "docs/openapi.json").read_text())["openapi"].startswith("3.")
