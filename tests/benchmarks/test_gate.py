"""`make bench`: measures, and writes docs/benchmarks.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.benchmark
@pytest.mark.timeout(1_800)
def test_measure_the_gate() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.benchmarks.gate"], cwd=ROOT, check=False)

    assert done.returncode == 0
    assert "| nothing" in (ROOT / "docs" / "benchmarks.md").read_text()
