"""Routes of a gateway: method and path pattern -> meter, quantity, mode."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

ROUTES_MAX = 500
QUANTITY_MAX = 10**15
MODES = ("peek", "consume", "hold")
_METHOD = re.compile(r"\*|[A-Z]{1,16}")
_PATH = re.compile(r"/[^\s?#\x00]{0,499}")


class RouteMalformed(ValueError):
    """A route cannot match anything, or says something that no route can."""

    def __init__(self, param: str, sentence: str) -> None:
        super().__init__(sentence)
        self.param = param


@dataclass(frozen=True, slots=True)
class Route:
    """One route; `*` in the method stands for all, in the path for any run of characters."""

    path: str
    meter: str
    method: str = "*"
    quantity: int = 1
    mode: str = "consume"


def checked_routes(routes: Sequence[Route]) -> Sequence[Route]:
    """Return the routes as they are; raises RouteMalformed naming the member at fault."""
    if len(routes) > ROUTES_MAX:
        raise RouteMalformed("routes", f"A gateway has at most {ROUTES_MAX} routes.")
    for position, route in enumerate(routes):
        at = f"routes[{position}]"
        if not _METHOD.fullmatch(route.method):
            raise RouteMalformed(f"{at}.method", "A method is * or in capitals, such as POST.")
        if not _PATH.fullmatch(route.path):
            raise RouteMalformed(f"{at}.path", "A path begins with / and has no query or blank.")
        if not route.meter:
            raise RouteMalformed(f"{at}.meter", "A route names a meter.")
        if not 0 <= route.quantity <= QUANTITY_MAX:
            raise RouteMalformed(f"{at}.quantity", f"A quantity is 0 to {QUANTITY_MAX:,}.")
        if route.mode not in MODES:
            raise RouteMalformed(f"{at}.mode", f"A mode is one of {', '.join(MODES)}.")
    return routes
