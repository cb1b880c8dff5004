"""Where calls wait, and which of them go together.

A call waits in the line of its customer. A *flight* takes whole lines, and a customer is in one
flight at a time, so that nothing is decided over what another flight has not written yet.

There are two lanes. What came in a request of many items waits in one of its own, whose flights
are its own too: who asks one thing waits for neither. Only a customer's own calls go together, what
came alone before what came with many; and where both never rest, they fly in turn. Because a
customer in the air cannot be asked about, flights of many are short while others ask.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from metering.gate.calls import Call, Reference

FEW = 16  # items of a request; one of more is of many
SMALL_FLIGHTS = 2  # of a lane in the air at a time; more of them only for batches
MOST_FLIGHTS = 3  # of a lane: a flight more is for the other one
LARGE = 256  # items that wait
SHORTER = 2  # times, is a flight of many while others ask, and for so long after:
QUIET_S = 1.0
Line = int | Reference  # a customer, or how a call names one that is not known yet


class Lane:
    """The lines of some calls. `weight`: items that wait in them."""

    __slots__ = ("flights", "lines", "ready", "smallest", "waiting", "weight")

    def __init__(self) -> None:
        self.lines: dict[Line, list[Call]] = {}
        self.ready: OrderedDict[Line, None] = OrderedDict()  # with calls and in no flight
        self.flights: list[Flight] = []
        self.waiting = 0  # calls
        self.smallest = 0  # calls of the smallest flight
        self.weight = 0

    def may_fly(self) -> bool:
        """Whether another flight is worth it: a small one would cost as much as a large one."""
        flying = len(self.flights)
        if flying >= SMALL_FLIGHTS and (flying >= MOST_FLIGHTS or self.weight < LARGE):
            return False
        return bool(self.ready) and self.waiting * 2 >= self.smallest

    def board(self, line: Line, flight: Flight, *, most: int, fitting: bool = False) -> None:
        """Let the calls of a line begin to fly, until the flight has so many items.

        `fitting`: only those with which it has no more.
        """
        waited = self.lines.pop(line, ())
        for place, call in enumerate(waited):
            if flight.weight >= most or (fitting and flight.weight + call.weight > most):
                self.lines[line] = list(waited[place:])
                break
            call.waits = False
            self.waiting -= 1
            self.weight -= call.weight
            if not call.done:
                flight.calls.append(call)
                flight.weight += call.weight

    def look(self) -> None:
        """See how large the flights are that are in the air."""
        self.smallest = min([len(flight.calls) for flight in self.flights], default=0)

    def clear(self) -> None:
        """Forget what waits."""
        self.lines.clear()
        self.ready.clear()
        self.waiting = self.weight = 0


@dataclass(slots=True)
class Flight:
    """Calls that are decided and written together, and the lines that wait until they landed."""

    lane: Lane
    of_many: bool = False  # it carries what came in requests of many items
    calls: list[Call] = field(default_factory=list)
    lines: set[Line] = field(default_factory=set)
    weight: int = 0  # items


class Lines:
    """The calls of one process that have no answer yet."""

    def __init__(self, *, batch: int, queue: int) -> None:
        self._batch = batch  # items of a flight
        self._queue = queue  # items that may wait
        self._few, self._many = Lane(), Lane()
        self._flown: set[Line] = set()
        self._owed: set[Line] = set()  # flew for one thing, so the next flight is for their many
        self._asked_at = -math.inf  # when somebody last asked one thing
        self._wake = asyncio.Event()

    def free(self, *, of_many: bool) -> int:
        """How many more items may wait; what comes in requests of many leaves others a quarter."""
        few, many = self._few.weight, self._many.weight
        share = self._queue * 3 // 4
        left = self._queue - few - min(many, share)  # what of many is the only one may be more
        if of_many:
            left = min(left, share - many)
        return max(left, 0 if many + few else 1)

    def fit(self, weight: int, *, of_many: bool) -> bool:
        """Whether a request of so many items may wait: as the only one it always may."""
        waiting = self._many.weight if of_many else self._few.weight + self._many.weight
        return not waiting or weight <= self.free(of_many=of_many)

    def others_ask(self) -> bool:
        """Whether somebody asked one thing just now, who would wait for those of many."""
        return time.monotonic() - self._asked_at < QUIET_S

    def put(self, calls: Iterable[Call], *, first: bool = False) -> None:
        """Let calls wait, behind those of their lines or before them."""
        flown, owed, few, many = self._flown, self._owed, self._few, self._many
        for call in calls:
            queue = call.queue
            lane = many if call.of_many else few
            if lane is few and call.since > self._asked_at:
                self._asked_at = call.since
            line = lane.lines.get(queue)
            if line is None:
                lane.lines[queue] = [call]
                if queue not in flown and queue not in owed:
                    lane.ready[queue] = None
            elif first:
                line.insert(0, call)
            else:
                line.append(call)
            call.waits = True
            lane.waiting += 1
            lane.weight += call.weight
        if not self._wake.is_set() and self._next() is not None:
            self._wake.set()

    def put_back(self, calls: Sequence[Call]) -> None:
        """Let calls that came to nothing wait again, before the others of their lines.

        Those that wait again already go on waiting: nothing is decided twice in one flight.
        """
        left = [call for call in reversed(calls) if not (call.done or call.waits)]
        self.put(left, first=True)

    async def take(self) -> Flight:
        """Wait until a flight is worth it, and begin it: whole lines, as far as a batch goes."""
        while (lane := self._next()) is None:
            self._wake.clear()
            await self._wake.wait()
        of_many = lane is self._many
        most = self._batch
        if of_many and self.others_ask():
            most = max(most // SHORTER, 1)
        flight = Flight(lane, of_many)
        while lane.ready and flight.weight < most:
            line, _ = lane.ready.popitem(last=False)
            self._few.ready.pop(line, None)
            self._many.ready.pop(line, None)
            self._owed.discard(line)
            flight.lines.add(line)
            self._flown.add(line)
            self._few.board(line, flight, most=most)
            self._many.board(line, flight, most=most, fitting=not of_many)
        lane.flights.append(flight)
        lane.look()
        return flight

    def claim(self, customer_id: int, flight: Flight) -> bool:
        """Whether a customer's calls may be decided in a flight; otherwise they must be put back.

        They may have come in another line: it was not known whom they name.
        """
        if customer_id in flight.lines:
            return True
        if customer_id in self._flown:
            return False
        flight.lines.add(customer_id)
        self._flown.add(customer_id)
        self._few.ready.pop(customer_id, None)
        self._many.ready.pop(customer_id, None)
        return True

    def land(self, flight: Flight) -> None:
        """End a flight: its lines may fly again."""
        flight.lane.flights.remove(flight)
        flight.lane.look()
        self._flown -= flight.lines
        self._owed -= flight.lines
        for line in flight.lines:
            if line in self._many.lines:
                self._many.ready[line] = None
                if flight.lane is self._few:
                    self._many.ready.move_to_end(line, last=False)
                    self._owed.add(line)
                    continue
            if line in self._few.lines:
                self._few.ready[line] = None
        if self._few.ready or self._many.ready:
            self._wake.set()

    def all(self) -> list[Call]:
        """Every call that is in a flight or waits."""
        lanes = self._few, self._many
        flying = [call for lane in lanes for flight in lane.flights for call in flight.calls]
        waiting = [call for lane in lanes for line in lane.lines.values() for call in line]
        return flying + waiting

    def clear(self) -> None:
        """Forget what waits."""
        self._few.clear()
        self._many.clear()
        self._owed.clear()

    def _next(self) -> Lane | None:
        """The lane whose flight is worth it now: who asks one thing goes first."""
        if self._few.may_fly():
            return self._few
        return self._many if self._many.may_fly() else None
