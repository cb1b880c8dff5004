"""docs/reporting.md has the table of reasons as the code has it."""

from __future__ import annotations

from metering.domain.refusals import REFUSALS, Again, Kept
from tests.conftest import ROOT

_KEPT = {Kept.ALWAYS: "yes", Kept.FOREIGN: "of another system's shape", Kept.NEVER: "no"}
_AGAIN = {Again.ALWAYS: "by every run", Again.CHOSEN: "only by name"}


def test_the_table_of_reasons_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "reporting.md").read_text(encoding="utf-8")
    rows = page.partition("| Stopped at |")[2].partition("\n\n")[0].splitlines()[2:]
    told = {}
    for row in rows:
        point, codes, kept, again = (cell.strip() for cell in row.strip("|").split("|"))
        for code in codes.split(", "):
            told[code.strip("`")] = (point, kept, again)
    assert told == {
        code: (each.point, _KEPT[each.kept], _AGAIN[each.again]) for code, each in REFUSALS.items()
    }
