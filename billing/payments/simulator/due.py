"""What time brings: drafts that issue themselves, charges, retries, renewals, expiries."""

from __future__ import annotations

from billing.payments.simulator import checkout, collection, renewals
from billing.payments.simulator.forms import Json
from billing.payments.simulator.world import World


def catch_up(world: World) -> int:
    """Do everything that has fallen due by now, earliest first; return how much that was."""
    done = 0
    while (due := world.store.next_due()) is not None and due[0] <= world.now():
        _act(world, due[1])
        done += 1
    return done


def move_to(world: World, target: int) -> int:
    """Let time pass until `target`: each thing happens at its own moment, in order."""
    done = 0
    while (due := world.store.next_due()) is not None and due[0] <= target:
        if due[0] > world.now():
            world.clock.set_to(due[0])
        _act(world, due[1])
        done += 1
    world.clock.set_to(target)
    return done


def _act(world: World, identifier: str) -> None:
    # Nobody asked for this, so its events name no request.
    world.request_id = world.idempotency_key = None
    obj = world.store.get(identifier) or {}
    due_at = obj["_due_at"]
    match obj["object"], obj["status"]:
        case "invoice", "draft":
            collection.finalize(world, obj)
        case "invoice", _:
            collection.collect_when_due(world, obj)
        case "subscription", _:
            renewals.renew(world, obj)
        case "checkout.session", _:
            checkout.close(world, obj)
        case _:
            pass
    _never_again(world, identifier, due_at)


def _never_again(world: World, identifier: str, due_at: int) -> None:
    obj: Json = world.store.get(identifier) or {}
    if obj.get("_due_at") == due_at and obj["object"] != "invoice":
        world.store.put({**obj, "_due_at": None})
    elif obj.get("_due_at") == due_at and obj["status"] == "open" and obj["attempted"]:
        world.store.put({**obj, "_due_at": None, "next_payment_attempt": None})
