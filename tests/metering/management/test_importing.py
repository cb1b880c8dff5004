"""metering.management.importing: rows as events that a request can hold."""

from __future__ import annotations

from typing import Any

import pytest

from metering.domain.bodies import BODY_MAX
from metering.domain.shapes.reading import ShapeInvalid
from metering.domain.shapes.table import Layout
from metering.management.importing import Plan, event_of, unsendable

PLAN = Plan("http://127.0.0.1", "", Layout(), "import", "", batch=1_000, lanes=1)
ROW: dict[str, Any] = {"id": "1", "type": "api.call", "subject": "acme", "text": "x"}


def test_an_event_may_fill_a_request_and_no_more() -> None:
    _, encoded = event_of(1, ROW, PLAN)
    fits = "x" * (BODY_MAX - len(b"[]") - len(encoded) + 1)
    _, largest = event_of(1, ROW | {"text": fits}, PLAN)
    assert len(b"[" + largest + b"]") == BODY_MAX
    for more in (fits + "x", fits[1:] + "é"):
        with pytest.raises(ShapeInvalid, match="a request at most 8,388,608") as caught:
            event_of(1, ROW | {"text": more}, PLAN)
        assert caught.value.code == "body_too_large"


@pytest.mark.parametrize("change", [{"id": "\ud800"}, {"\udfff": 1}, {"text": object()}])
def test_what_cannot_be_written_as_json_is_told_without_sending(change: dict[str, Any]) -> None:
    rows = [(1, ROW), (2, ROW | change), (3, ROW)]
    ((number, error),) = unsendable(iter(rows), plan=PLAN)
    assert (number, error.code) == (2, "body_malformed")
