"""What quickstart tells: the table of the demonstration, the addresses, and the file of them."""

from __future__ import annotations

import shutil
import textwrap
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from config.quickstart.house import House

_NARROWEST, _USUAL, _WIDEST = 60, 110, 160


def summary(house: House) -> dict[str, Any]:
    """The quickstart's file: addresses, keys and sign-ins."""
    known = house.known
    return {
        "base_url": house.local_url,
        "operator_key": known["operator_key"],
        "gateway_key": known["gateway_key"],
        "admin": {
            "url": f"{house.local_url}/admin/",
            "username": known["admin"]["email"],
            "password": known["admin"]["password"],
        },
        "customers": [
            {
                "name": each["name"],
                "id": each["id"],
                "external_id": each["external_id"],
                "plan": each["plan"],
                "api_key": each["api_key"],
                "portal": {"url": f"{house.local_url}/portal", **each["member"]},
            }
            for each in known["customers"]
        ],
        "stripe": {"mode": house.stripe_mode, "url": house.stripe_url},
        "database_url": house.database_url,
        "broker_url": house.broker_url,
    }


def welcome(house: House, *, file: Path) -> str:
    """Where everything is, for a person."""
    told = summary(house)
    rows = [
        ("API", f"{told['base_url']}/api/docs"),
        ("Admin", f"{told['admin']['url']}  {_sign_in(told['admin']['username'], told['admin'])}"),
        *(
            (
                each["name"],
                f"{each['portal']['url']}  {_sign_in(each['portal']['email'], each['portal'])}",
            )
            for each in told["customers"]
        ),
        ("Gateway key", told["gateway_key"]),
        ("Operator key", told["operator_key"]),
        *((f"{each['name']}'s key", each["api_key"]) for each in told["customers"]),
        (
            "Stripe",
            f"simulator, {told['stripe']['url']}" if house.stripe_url else house.stripe_mode,
        ),
        ("Logs", str(house.home / "logs")),
        ("All of this", str(file)),
    ]
    width = max(len(name) for name, _ in rows)
    lines = "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)
    first = told["customers"][0]
    call = (
        f"  curl {told['base_url']}/api/v1/check \\\n"
        f"    -H 'Authorization: Bearer {told['gateway_key']}' \\\n"
        f"    -H 'Content-Type: application/json' \\\n"
        f'    -d \'{{"customer": "{first["external_id"]}", "meter": "api.calls"}}\''
    )
    return (
        f"\nFarebox serves.\n{lines}\n\nMay Acme make a call?\n{call}\n\nCtrl-C stops everything.\n"
    )


def _sign_in(name: str, person: dict[str, str]) -> str:
    return f"({name} / {person['password']})"


def heading() -> str:
    """The head of the demonstration's table."""
    width = _column()
    line = "-" * width
    return f"\n       {'what should happen':<{width}}  what happened\n       {line}  {line}"


def row(number: int, expected: str, happened: str, *, mark: str) -> str:
    """One row of the demonstration's table, its texts wrapped side by side."""
    width = _column()
    left, right = textwrap.wrap(expected, width), textwrap.wrap(happened, width)
    pairs = zip_longest([f"{number:>2} {mark}"], left, right, fillvalue="")
    return "\n".join(f"{mark:<5}  {one:<{width}}  {two}".rstrip() for mark, one, two in pairs)


def _column() -> int:
    terminal = shutil.get_terminal_size((_USUAL, 24)).columns
    return (max(_NARROWEST, min(terminal, _WIDEST)) - 10) // 2
