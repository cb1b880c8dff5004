"""docs/reporting.md: every example is taken as it stands there, and counted."""

from __future__ import annotations

import re

import pytest

from accounts.models import Customer
from metering.models import UsageEvent
from tests.conftest import ROOT
from tests.metering.gate.client import GateProcess
from tests.metering.gate.conftest import gate
from tests.metering.gate.test_ingest import acme, used

__all__ = ["acme", "gate"]
pytestmark = pytest.mark.django_db(transaction=True)
_EXAMPLE = re.compile(
    r"^```\nPOST (?P<path>/\S+)\n(?:Content-Type: (?P<kind>\S+)\n)?\n(?P<body>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


def test_every_example_counts(gate: GateProcess, acme: Customer) -> None:
    page = (ROOT / "docs" / "reporting.md").read_text(encoding="utf-8")
    examples = list(_EXAMPLE.finditer(page))
    assert len(examples) == page.count("```\nPOST ") == 6
    for example in examples:
        headers = {"content-type": example["kind"] or "application/json"}
        got = gate.send("POST", example["path"], example["body"].encode(), headers=headers)
        assert got.status == 200, (example["path"], got)
        assert got.body["accepted"] >= 1, (example["path"], got)
        assert got.body["rejected"] == []
    assert UsageEvent.objects.count() == 7
    assert used(acme) == {
        "tokens": 812 + 790 + 1_500 + 100,
        "cached": 1_000,
        "chat": 1_520,
        "requests": 1,
    }
