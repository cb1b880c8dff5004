"""The measuring of more customers than copies works, at a size that fits."""

from __future__ import annotations

from argparse import Namespace

import pytest

from tests.benchmarks import crowding
from tests.benchmarks.measuring import Effort


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_twice_as_many_as_copies_are_measured_beside_as_many() -> None:
    text = crowding.measure(Namespace(copies=50), Effort(0.2, 1, 8, warm_up_s=0.1))
    assert "| 50 active | 100 active |" in text
    assert "one database with 150 customers" in text
    assert "FAREBOX_GATE_COPIES is 50 " in text
    assert "(**" not in text  # what went wrong
