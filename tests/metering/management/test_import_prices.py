"""`manage.py import_prices`: shows a difference, keeps a draft, applies nothing by itself."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts.models import AuditEntry, CatalogueVersion
from metering.domain.meters import counted_of
from metering.management.price_sources import PriceSourceMissing, from_pip
from metering.models import PriceTable, PriceTableVersion, TokenPrice
from metering.operations.defining import define_meter
from metering.queries.meters import terms_of
from tests.metering.management.wheels import MEMBER, PRICES, build, install

pytestmark = pytest.mark.django_db


def imported(*arguments: object, **options: Any) -> dict[str, Any]:
    """The report of a run, as JSON."""
    out = StringIO()
    call_command("import_prices", *map(str, arguments), json=True, stdout=out, **options)
    report: dict[str, Any] = json.loads(out.getvalue())
    return report


def state() -> list[Any]:
    """Everything that a run which keeps nothing must leave as it was."""
    row = CatalogueVersion.objects.first()
    return [
        0 if row is None else row.version,
        list(PriceTable.objects.values_list()),
        list(PriceTableVersion.objects.values_list()),
        TokenPrice.objects.count(),
        AuditEntry.objects.count(),
    ]


def test_a_wheel_becomes_a_draft_with_version_and_hash(tmp_path: Path) -> None:
    wheel = build(tmp_path)
    catalogue = state()[0]
    report = imported(wheel)
    digest = hashlib.sha256(json.dumps(PRICES).encode()).hexdigest()
    assert (report["source"], report["sha256"]) == ("litellm 9.8.7", digest)
    assert (report["table"], report["version"], report["status"]) == ("llm", 1, "draft")
    assert (report["models"], report["prices"], report["compared_with"]) == (4, 7, None)
    assert report["left_out"] == {
        "unpriced": 1,
        "stepped": 1,
        "rounded": 0,
        "refused": ["odd: input"],
    }
    assert {"model": "gpt-4o", "class": "input", "before": None, "after": "0.0000025",
            "percent": None} in report["added"]  # fmt: skip
    version = PriceTableVersion.objects.get()
    assert (version.source, version.sha256) == ("litellm 9.8.7", digest)
    assert (version.status, version.created_by) == ("draft", "import_prices")
    assert state()[0] == catalogue  # no gate has anything new to read
    again = imported(wheel)
    assert (again["version"], PriceTableVersion.objects.count()) == (1, 1)


def test_a_new_list_is_shown_as_a_difference_and_prices_nothing_until_activated(
    tmp_path: Path,
) -> None:
    imported(build(tmp_path), "--activate")
    meter = define_meter(
        key="cost", event_type="llm", aggregation="sum", price_table="llm",
        actor="opk_1", now=datetime.now(UTC),
    )  # fmt: skip
    used = {"model": "gpt-4o", "input_tokens": 1_000, "cached_input_tokens": 100}

    def cost(at: datetime) -> int | str:
        return counted_of(terms_of(meter, at=at), used, at=at)

    # 1,000 x 2,500 + 100 x 1,250 nano
    now = datetime.now(UTC)
    assert cost(now) == 2_625_000
    dearer = {**PRICES, "gpt-4o": {**PRICES["gpt-4o"], "input_cost_per_token": 5e-06}}
    del dearer["gpt-4o-mini"]
    report = imported(build(tmp_path, version="9.9.0", prices=dearer))
    assert (report["version"], report["status"], report["compared_with"]) == (2, "draft", 1)
    assert report["added"] == []
    assert report["changed"] == [
        {
            "model": "gpt-4o",
            "class": "input",
            "before": "0.0000025",
            "after": "0.000005",
            "percent": "100.00",
        }
    ]
    assert [(each["model"], each["class"]) for each in report["removed"]] == [
        ("gpt-4o-mini", "input"),
        ("gpt-4o-mini", "output"),
    ]
    assert cost(now) == cost(now + timedelta(days=9)) == 2_625_000
    at = (now + timedelta(days=1)).isoformat()
    active = imported(tmp_path / "litellm-9.9.0-py3-none-any.whl", "--activate",
                      "--effective-at", at)  # fmt: skip
    assert (active["version"], active["status"]) == (2, "active")
    assert active["effective_at"] == at.replace("+00:00", "Z")
    assert cost(now) == 2_625_000
    assert cost(now + timedelta(days=1)) == 5_125_000


def test_a_dry_run_keeps_nothing(tmp_path: Path) -> None:
    before = state()
    report = imported(build(tmp_path), "--dry-run")
    assert (report["version"], report["status"], report["prices"]) == (None, "not kept", 7)
    assert state() == before


def test_a_file_and_some_of_its_models(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(PRICES), encoding="utf-8")
    report = imported(path, "--model", "gpt-*", "--model", "odd", table="mine")
    assert (report["table"], report["models"], report["source"]) == ("mine", 3, "prices.json")
    assert PriceTableVersion.objects.get().source == "prices.json gpt-* odd"
    before = state()
    with pytest.raises(CommandError, match="a version has 1 to"):
        imported(path, "--model", "none-*")
    assert state() == before


def test_the_report_reads_well(tmp_path: Path) -> None:
    many = {f"m-{n:02}": {"input_cost_per_token": 1e-06} for n in range(30)}
    out = StringIO()
    call_command("import_prices", str(build(tmp_path, prices={**PRICES, **many})), stdout=out)
    text = out.getvalue()
    assert "litellm 9.8.7, sha256 " in text
    assert "37 prices of 34 models" in text
    assert "ordinary prices of 1 models that cost more in long contexts" in text
    assert "  gpt-4o input: - -> 0.0000025\n" in text
    assert "… and 17 more (--json shows all)" in text
    assert text.rstrip().endswith("llm: version 1, draft")
    out = StringIO()
    call_command("import_prices", str(build(tmp_path)), "--activate", stdout=out)
    assert out.getvalue().rstrip().endswith("llm: version 2, active from 1970-01-01T00:00:00Z")
    halved = {**PRICES, "gpt-4o-mini": {"input_cost_per_token": 7.5e-08}}
    out = StringIO()
    call_command("import_prices", str(build(tmp_path, prices=halved)), "--dry-run", stdout=out)
    assert "  gpt-4o-mini input: 0.00000015 -> 0.000000075 (-50.00 %)\n" in out.getvalue()
    assert "  gpt-4o-mini output: 0.0000006 -> -\n" in out.getvalue()
    assert out.getvalue().rstrip().endswith("llm: nothing was kept")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["x.json", "--pip"], "not both"),
        (["x.json", "--effective-at", "2026-11-01T00:00:00Z"], "goes with --activate"),
        (["x.json", "--activate", "--dry-run"], "A dry run activates nothing"),
        (["x.json", "--activate", "--effective-at", "2026-11-01T00:00:00"], "needs an offset"),
        (["nowhere.json"], "nowhere.json: No such file"),
        (["nowhere.whl"], "nowhere.whl: No such file"),
        (["--pip", "-r x"], "is not a package's name"),
        (["--pip", "git+https://example.invalid/x"], "is not a package's name"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_kept(arguments: list[str], reason: str) -> None:
    before = state()
    with pytest.raises(CommandError, match=re.escape(reason)):
        imported(*arguments)
    assert state() == before


def test_what_is_no_list_is_said_and_nothing_is_kept(tmp_path: Path) -> None:
    before = state()
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "b.whl").write_text("no zip")
    empty = build(tmp_path, prices=None)
    for path, reason in (
        (tmp_path / "a.json", "not an object of models"),
        (tmp_path / "b.whl", "b.whl is no wheel with litellm/model_prices"),
        (empty, "is no wheel with litellm/model_prices"),
    ):
        with pytest.raises(CommandError, match=reason):
            imported(path)
    assert state() == before


def test_a_list_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "litellm-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(MEMBER, b" " * 50_000_001)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(CommandError, match="is too large"):
        imported(path)


def test_the_installed_package_is_read_as_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    install(tmp_path, version="7.7.7", prices=None)
    with pytest.raises(CommandError, match=r"litellm 7\.7\.7 carries no"):
        imported()
    install(tmp_path, version="7.7.7")
    report = imported()
    assert (report["source"], report["prices"]) == ("litellm 7.7.7", 7)


def test_pip_fetches_a_wheel_from_where_it_is_set_up_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(CommandError, match="pip could not download litellm"):
        imported("--pip")
    build(tmp_path, version="9.8.6")
    build(tmp_path)
    assert imported("--pip")["source"] == "litellm 9.8.7"
    assert imported("--pip", "litellm==9.8.6")["source"] == "litellm 9.8.6"


@pytest.mark.slow
def test_the_published_catalogue_can_be_read(tmp_path: Path) -> None:
    """The wheel itself, from wherever pip is set up to fetch it."""
    try:
        source = from_pip("litellm")
    except PriceSourceMissing as missing:
        pytest.skip(f"the published wheel cannot be had here: {missing}")
    path = tmp_path / "published.json"
    path.write_bytes(source.content)
    assert re.fullmatch(r"litellm \d+\.\d+\.\d+\S*", source.name)
    report = imported(path, "--activate")
    assert report["sha256"] == hashlib.sha256(source.content).hexdigest()
    assert report["models"] > 500
    assert report["left_out"]["refused"] == []
    prices = TokenPrice.objects.filter(version__number=report["version"])
    assert prices.count() == report["prices"] > 1_000
    # Against another reading of the same data: as floats, which are near.
    listed = json.loads(source.content)
    members = {"input": "input_cost_per_token", "output": "output_cost_per_token"}
    compared = 0
    for price in prices.filter(token_class__in=members):
        given = listed[price.model][members[price.token_class]]
        assert float(price.price) == pytest.approx(given, rel=1e-9, abs=1e-18)
        compared += 1
    assert compared > 1_000
