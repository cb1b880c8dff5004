"""The table of problems is complete and in step with the contract."""

from __future__ import annotations

import re
from pathlib import Path

from accounts.domain.problem_types import PROBLEM_TYPES


def test_every_problem_is_told_in_full() -> None:
    for code, kind in PROBLEM_TYPES.items():
        assert re.fullmatch(r"[a-z_]+", code)
        assert kind.code == code
        assert 400 <= kind.status < 600
        assert kind.title
        assert kind.when.endswith(".")
        assert kind.mend.endswith(".")


def test_the_contract_names_no_problem_that_is_not_here(shared: Path) -> None:
    contract = (shared / "api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:402|403|409|429|422|503)[^|]*)\|([^|]*)\|", contract, re.MULTILINE)
    assert len(rows) > 5
    for statuses, codes in rows:
        for code in re.findall(r"`([a-z_]+)`", codes):
            assert str(PROBLEM_TYPES[code].status) in statuses
