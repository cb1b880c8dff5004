"""Routes that cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from accounts.domain.routes import QUANTITY_MAX, Route, RouteMalformed, checked_routes

GOOD = Route("/v1/chat/*", "api.calls", "POST", 1, "consume")


def test_good_routes_pass_in_their_order() -> None:
    routes = [GOOD, replace(GOOD, path="/", method="*", quantity=0, mode="peek")]
    assert checked_routes(routes) == routes
    assert checked_routes([]) == []


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("method", "post"), ("method", ""), ("path", "v1/chat"), ("path", "/a?b=c"),
        ("path", "/a b"), ("path", "/" + "a" * 500), ("meter", ""), ("quantity", -1),
        ("quantity", QUANTITY_MAX + 1), ("mode", "take"),
    ],
)  # fmt: skip
def test_the_member_at_fault_is_named(member: str, value: Any) -> None:
    with pytest.raises(RouteMalformed) as refused:
        checked_routes([GOOD, replace(GOOD, **{member: value})])
    assert refused.value.param == f"routes[1].{member}"


def test_too_many_routes() -> None:
    with pytest.raises(RouteMalformed, match="at most 500"):
        checked_routes([GOOD] * 501)
