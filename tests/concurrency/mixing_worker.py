"""A gate in a process of its own whose callers do whatever comes to their minds, for a while.

`python -m tests.concurrency.mixing_worker` takes JSON {"dsn", "gateway_key", "seed", "callers",
"seconds", "keys", "name"} and prints what came of it as JSON: `kept` {id: quantity} of what was
admitted and not given back, `open` likewise of holds that were left open, `statuses`, and `wrong`:
answers that cannot be right, each as a sentence.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from metering.gate.app import Gate
from tests.concurrency.gate_worker import ask, gate_of

CHECK = "/api/v1/check"
METERS = {"api.calls": "api.call", "chat.tokens": "llm.completion"}
# What a call may be answered when its customer is changed, closed and raced for all the time.
_DENIED = frozenset({402, 403, 429})


@dataclass
class Mixed:
    """What all callers of one gate did."""

    kept: dict[str, dict[str, int]] = field(default_factory=dict)
    open: dict[str, dict[str, int]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Caller:
    """One caller, with calls one after the other."""

    def __init__(self, gate: Gate, job: dict[str, Any], number: int, mixed: Mixed) -> None:
        self._gate, self._job, self._mixed = gate, job, mixed
        self._name = f"{job['name']}-{number}"
        self._chance = random.Random(f"{job['seed']} {self._name}")
        self._made = 0
        self._admitted: list[tuple[dict[str, Any], Any]] = []  # bodies and answers, for repeats

    async def live(self, until: float) -> None:
        """Call until it is time to stop."""
        acts = [self._peek, self._consume, self._consume, self._hold, self._hold, self._report]
        acts += [self._repeat, self._batch]
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            await self._chance.choice(acts)()

    async def _peek(self) -> None:
        await self._ask(CHECK, self._body("peek"), _DENIED)

    async def _consume(self) -> None:
        body = self._body("consume")
        # Perhaps several of the same at once: all get one answer, or are all denied.
        times = self._chance.choice([1, 1, 1, 3])
        got = await asyncio.gather(*(self._ask(CHECK, body, _DENIED) for _ in range(times)))
        said = {json.dumps(answer, sort_keys=True) for status, answer in got if status == 200}
        if len(said) > 1:
            self._mixed.wrong.append(f"{body['id']} was answered {len(said)} ways")
        for status, answer in got:
            if status == 200:
                self._mixed.kept[body["id"]] = _asked(body)
                self._admitted.append((body, answer))

    async def _hold(self) -> None:
        body = self._body("hold") | {"ttl": self._chance.choice([1, 1, 60, 600])}
        status, answer = await self._ask(CHECK, body, _DENIED)
        if status != 200:
            return
        self._admitted.append((body, answer))
        id_, path = body["id"], f"/api/v1/holds/{answer['hold']['id']}"
        short = body["ttl"] == 1
        if not short:
            self._mixed.open[id_] = _asked(body)
        if self._chance.random() < 0.3:
            late = {409} if short else set()
            await self._ask(f"{path}/extend", {"ttl": 900}, late)
            short = short and self._chance.random() < 0.5
        end = self._chance.choice(["settle", "settle", "release", "leave", "event"])
        if end == "leave":
            if body["ttl"] == 1:
                self._mixed.open.pop(id_, None)  # nobody can tell whether it was extended in time
            return
        self._mixed.open.pop(id_, None)
        if end == "release":
            await self._ask(f"{path}/release", None, set())
            return
        actual = {meter: self._chance.randrange(n + 3) for meter, n in _asked(body).items()}
        if end == "event" and len(actual) == 1:
            ((meter, quantity),) = actual.items()
            data = {"quantity": quantity, "hold": answer["hold"]["id"]}
            event = self._event(meter, data) | {"subject": answer["customer"]}
            _, told = await self._ask("/api/v1/events", [event], set())
            if told["accepted"] != 1:
                self._mixed.wrong.append(f"settling {id_} by an event: {told}")
            id_ = event["id"]
        else:
            rows = [{"meter": meter, "quantity": n} for meter, n in actual.items()]
            first = await self._ask(f"{path}/settle", {"items": rows}, set())
            if first != await self._ask(f"{path}/settle", {"items": rows}, set()):
                self._mixed.wrong.append(f"{id_} was settled in two ways")
        self._mixed.kept[id_] = actual

    async def _report(self) -> None:
        meter = self._chance.choice([*METERS])
        data = {"quantity": self._chance.randrange(4)}
        event = self._event(meter, data) | {"subject": self._chance.choice(self._job["keys"])}
        twice = self._chance.random() < 0.5
        _, told = await self._ask("/api/v1/events", [event, event] if twice else [event], set())
        if (told["accepted"], told["duplicates"]) != (1, int(twice)):
            self._mixed.wrong.append(f"{event['id']}: {told}")
        self._mixed.kept[event["id"]] = {meter: data["quantity"]}

    async def _repeat(self) -> None:
        """What was admitted is answered as the first time, whatever happened since."""
        if not self._admitted:
            return
        body, first = self._chance.choice(self._admitted)
        if await self._ask(CHECK, body, set()) != (200, first):
            self._mixed.wrong.append(f"{body['id']} was answered otherwise when repeated")

    async def _batch(self) -> None:
        bodies = [self._body(self._chance.choice(["peek", "consume"])) for _ in range(5)]
        _, answer = await self._ask(CHECK, {"checks": bodies}, set())
        for body, told in zip(bodies, answer["results"], strict=True):
            if told["status"] == 200 and body["mode"] == "consume":
                self._mixed.kept[body["id"]] = _asked(body)
            elif told["status"] not in _DENIED | {200}:
                self._mixed.wrong.append(f"in a batch: {told}")

    def _body(self, mode: str) -> dict[str, Any]:
        chance = self._chance
        meters = chance.choice([["api.calls"], ["api.calls"], ["chat.tokens"], [*METERS]])
        rows = [{"meter": meter, "quantity": chance.choice([0, 1, 2, 7, 30])} for meter in meters]
        body = {"key": chance.choice(self._job["keys"]), "mode": mode, "items": rows}
        return body | ({"id": self._new_id()} if mode != "peek" else {})

    def _event(self, meter: str, data: dict[str, Any]) -> dict[str, Any]:
        return {
            "specversion": "1.0", "source": "app", "type": METERS[meter], "id": self._new_id(),
            "data": data,
        }  # fmt: skip

    def _new_id(self) -> str:
        self._made += 1
        return f"{self._name}-{self._made}"

    async def _ask(self, path: str, body: Any, refused: Any) -> tuple[int, Any]:
        status, answer = await ask(self._gate, self._job["gateway_key"], "POST", path, body)
        self._mixed.statuses[status] += 1
        if status != 200 and status not in refused:
            self._mixed.wrong.append(f"{path} {body}: {status} {answer}")
        return status, answer


def _asked(body: dict[str, Any]) -> dict[str, int]:
    return {row["meter"]: row["quantity"] for row in body["items"]}


async def _mix(job: dict[str, Any]) -> Mixed:
    gate, mixed = gate_of(job["dsn"]), Mixed()
    until = asyncio.get_running_loop().time() + job["seconds"]
    callers = [Caller(gate, job, number, mixed) for number in range(job["callers"])]
    await asyncio.gather(*(caller.live(until) for caller in callers))
    await gate.stop()
    return mixed


def main() -> None:
    """Mix, and say what came of it."""
    mixed = asyncio.run(_mix(json.loads(sys.stdin.readline())))
    told = {"kept": mixed.kept, "open": mixed.open, "statuses": mixed.statuses}
    print(json.dumps(told | {"wrong": mixed.wrong[:20]}))


if __name__ == "__main__":
    main()
