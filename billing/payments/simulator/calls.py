"""One API call as the handlers see it, and what retrieving and listing have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from billing.payments.simulator.errors import no_such
from billing.payments.simulator.forms import Json
from billing.payments.simulator.presenting import present
from billing.payments.simulator.shapes import Shape
from billing.payments.simulator.world import World


@dataclass(frozen=True, slots=True)
class Call:
    """Typed parameters and the ids found in the path."""

    path: str
    ids: tuple[str, ...]
    params: Json

    @property
    def id(self) -> str:
        """The first id in the path."""
        return self.ids[0]


Handler = Callable[[World, Call], Json]


@dataclass(frozen=True, slots=True)
class Route:
    """A method and path pattern (`*` stands for an id), the allow list, and who answers."""

    method: str
    pattern: str
    shape: Shape
    handler: Handler


def retrieve(kind: str) -> Handler:
    """Answer a GET of one object."""

    def handler(world: World, call: Call) -> Json:
        return present(world.store, world.find(kind, call.id))

    return handler


def listing(kind: str, *equal: str) -> Handler:
    """Answer a list call; the parameters named in `equal` must equal the object's fields."""

    def handler(world: World, call: Call) -> Json:
        def fits(obj: Json) -> bool:
            wanted = ((name, call.params[name]) for name in equal if name in call.params)
            return all(obj.get(name) == value for name, value in wanted)

        return page(world, call, kind, fits=fits, owner=call.params.get("customer"))

    return handler


def page(
    world: World,
    call: Call,
    kind: str,
    *,
    fits: Callable[[Json], bool] = lambda _: True,
    owner: str | None = None,
) -> Json:
    """Return one page of the objects that fit, newest first, by Stripe's cursors."""
    limit = call.params.get("limit", 10)
    found: list[Json] = []
    newest = _bound(world, call.params.get("starting_after"), "starting_after")
    stop = _bound(world, call.params.get("ending_before"), "ending_before")
    for obj in _newest_first(world, kind, owner=owner, before=newest):
        if stop is not None and obj["_seq"] <= stop:
            break
        if obj.get("deleted") or not _within(obj, call.params.get("created")) or not fits(obj):
            continue
        found.append(obj)
        # Pages before a cursor end at it, so all of them must be known.
        if stop is None and len(found) > limit:
            break
    shown = found[-limit:] if stop is not None else found[:limit]
    return {
        "object": "list",
        "data": [present(world.store, obj) for obj in shown],
        "has_more": len(found) > limit,
        "url": call.path,
    }


def page_of(objects: list[Json], call: Call) -> Json:
    """Return one page of a short list that is already in its order."""
    limit = call.params.get("limit", 10)
    first = 0
    after = call.params.get("starting_after")
    if after is not None:
        places = [place for place, obj in enumerate(objects) if obj["id"] == after]
        if not places:
            raise no_such("object", after, param="starting_after", status=400)
        first = places[0] + 1
    shown = objects[first : first + limit]
    return {
        "object": "list",
        "data": shown,
        "has_more": len(objects) > first + limit,
        "url": call.path,
    }


def _newest_first(
    world: World, kind: str, *, owner: str | None, before: int | None
) -> Iterator[Json]:
    while batch := world.store.some(kind, owner=owner, before=before, count=100):
        yield from batch
        before = batch[-1]["_seq"]


def _bound(world: World, identifier: str | None, param: str) -> int | None:
    if identifier is None:
        return None
    sequence = world.store.sequence(identifier)
    if sequence is None:
        raise no_such("object", identifier, param=param, status=400)
    return sequence


def _within(obj: Json, bounds: dict[str, int] | None) -> bool:
    if bounds is None:
        return True
    created: int = obj["date" if obj["object"] == "invoiceitem" else "created"]
    return bounds.get("gt", created - 1) < created < bounds.get("lt", created + 1) and bounds.get(
        "gte", created
    ) <= created <= bounds.get("lte", created)
