"""The whole API is described without a warning."""

from __future__ import annotations

from pathlib import Path

from django.core.management import call_command


def test_the_description_is_made_without_a_warning(tmp_path: Path) -> None:
    written = tmp_path / "openapi.yaml"
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(written))
    text = written.read_text(encoding="utf-8")
    for path in ("/api/v1/check:", "/api/v1/plans:", "/api/v1/reports/usage.csv:"):
        assert path in text
