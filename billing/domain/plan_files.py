"""Plans as code: a file that says what is sold, and how two states of it differ.

A file is a mapping of plan keys to what the API takes for a plan, without the key and
``activate``; what stands in it wins over what is in the database, and a plan that is not named
in it is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

PLANS_MAX: Final = 500
_NAMED: Final = {"name": str, "description": str, "public": bool, "family": str}
_TERMS: Final = frozenset(
    {"currency", "interval", "fee", "trial_days", "trial_card", "trial_end", "grace_days"}
    | {"minimum", "billing_threshold", "seats", "entitlements", "prices", "tax_behavior"}
    | {"tax_code"}
)


class PlanFileInvalid(Exception):
    """The file does not describe plans; ``param`` is the path of the member at fault."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(f"{param}: {detail}" if param else detail)
        self.param = param
        self.detail = detail


@dataclass(frozen=True, slots=True)
class DescribedPlan:
    """One plan of a file. ``terms`` are the members of its version, not yet looked at."""

    key: str
    name: str
    description: str
    public: bool
    family: str
    terms: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """One member that is otherwise; None where it is not there at all."""

    path: str
    before: object
    after: object


def parse_plan_file(data: object) -> tuple[DescribedPlan, ...]:
    """The plans of ``{"plans": {"pro": {"name": "Pro", "fee": 2000, …}}}``, in their order.

    Raises :class:`PlanFileInvalid`; whether the terms hold together is not looked at here.
    """
    if not isinstance(data, Mapping) or set(data) != {"plans"}:
        raise PlanFileInvalid("", 'must be an object with the one member "plans"')
    plans = data["plans"]
    if not isinstance(plans, Mapping):
        raise PlanFileInvalid("plans", "must map the keys of plans to what they are")
    if len(plans) > PLANS_MAX:
        raise PlanFileInvalid("plans", f"are at most {PLANS_MAX}")
    return tuple(_plan(key, plan) for key, plan in plans.items())


def differences(before: object, after: object, *, path: str = "") -> tuple[Difference, ...]:
    """What is otherwise in ``after``, member by member; rights are compared by what they name."""
    return tuple(_differences(before, after, path=path))


def _plan(key: object, data: object) -> DescribedPlan:
    if not isinstance(key, str):
        raise PlanFileInvalid("plans", f"the key {key!r} must be a text: put it in quotes")
    at = f"plans.{key}"
    if not isinstance(data, Mapping):
        raise PlanFileInvalid(at, "must be an object")
    for member in data:
        if member not in _TERMS and member not in _NAMED:
            raise PlanFileInvalid(f"{at}.{member}", "is not a member of a plan")
    for member, kind in _NAMED.items():
        if member in data and not isinstance(data[member], kind):
            wanted = "a text" if kind is str else "true or false"
            raise PlanFileInvalid(f"{at}.{member}", f"must be {wanted}")
    rights = data.get("entitlements", [])
    if not isinstance(rights, list) or not all(isinstance(each, Mapping) for each in rights):
        raise PlanFileInvalid(f"{at}.entitlements", "must be a list of objects")
    return DescribedPlan(
        key=key,
        name=data.get("name", key),
        description=data.get("description", ""),
        public=data.get("public", True),
        family=data.get("family", ""),
        terms={member: value for member, value in data.items() if member in _TERMS},
    )


def _differences(before: object, after: object, *, path: str) -> Iterator[Difference]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for member in [*before, *(new for new in after if new not in before)]:
            yield from _differences(
                before.get(member), after.get(member), path=f"{path}.{member}".lstrip(".")
            )
    elif isinstance(before, list) and isinstance(after, list) and _are_rights(before, after):
        yield from _differences(_by_name(before), _by_name(after), path=path)
    elif before != after:
        yield Difference(path, before, after)


def _are_rights(*lists: Sequence[object]) -> bool:
    rows = [row for rows in lists for row in rows]
    return all(isinstance(row, Mapping) and ("meter" in row or "feature" in row) for row in rows)


def _by_name(rights: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """A meter may be limited in several windows: each is a right of its own."""
    return {
        right.get("feature") or f"{right['meter']}/{right.get('window', 'period')}": right
        for right in rights
    }
