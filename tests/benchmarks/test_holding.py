"""The measuring of many closed holds works, at a size that fits: made, checked, measured."""

from __future__ import annotations

from argparse import Namespace

import pytest

from tests.benchmarks import holding
from tests.benchmarks.measuring import Effort


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_many_closed_holds_are_measured_beside_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "FEW", 200)
    monkeypatch.setattr(holding, "CUSTOMERS", 300)
    text = holding.measure(Namespace(closed_holds=2_000), Effort(0.2, 1, 8, warm_up_s=0.1))
    assert "with 200 |" in text
    assert "with 2,000 |" in text
    assert "the gate answers that they are settled" in text
    assert "(**" not in text  # what went wrong
