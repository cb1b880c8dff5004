"""Where calls wait, and which of them go together.

A call waits in the line of its customer. A *flight* takes whole lines, and a customer is in one
flight at a time, so that nothing is decided over what another flight has not written yet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from metering.gate.calls import Call, Reference

SMALL_FLIGHTS = 2  # in the air at a time; more of them only for batches
LARGE = 256  # items that wait
Line = int | Reference  # a customer, or how a call names one that is not known yet


@dataclass(slots=True)
class Flight:
    """Calls that are decided and written together, and the lines that wait until they landed."""

    calls: list[Call] = field(default_factory=list)
    lines: set[Line] = field(default_factory=set)


class Lines:
    """The calls of one process that have no answer yet. `weight`: items that wait."""

    def __init__(self, *, batch: int) -> None:
        self._batch = batch  # items of a flight
        self._lines: dict[Line, list[Call]] = {}
        self._ready: deque[Line] = deque()  # lines with calls and in no flight
        self._flown: set[Line] = set()
        self._flights: list[Flight] = []
        self._waiting = 0  # calls
        self._smallest = 0  # calls of the smallest flight
        self.weight = 0
        self._wake = asyncio.Event()

    def put(self, calls: Iterable[Call], *, first: bool = False) -> None:
        """Let calls wait, behind those of their lines or before them."""
        lines = self._lines
        for call in calls:
            queue = call.queue
            line = lines.get(queue)
            if line is None:
                lines[queue] = [call]
                if queue not in self._flown:
                    self._ready.append(queue)
            elif first:
                line.insert(0, call)
            else:
                line.append(call)
            call.waits = True
            self._waiting += 1
            self.weight += call.weight
        if not self._wake.is_set() and self._may_fly():
            self._wake.set()

    def put_back(self, calls: Sequence[Call]) -> None:
        """Let calls that came to nothing wait again, before the others of their lines.

        Those that wait again already go on waiting: nothing is decided twice in one flight.
        """
        left = [call for call in reversed(calls) if not (call.done or call.waits)]
        self.put(left, first=True)

    async def take(self) -> Flight:
        """Wait until a flight is worth it, and begin it: whole lines, as far as a batch goes."""
        while not self._may_fly():
            self._wake.clear()
            await self._wake.wait()
        flight = Flight()
        weight = 0
        while self._ready and weight < self._batch:
            line = self._ready.popleft()
            flight.lines.add(line)
            self._flown.add(line)
            waited = self._lines.pop(line)
            for place, call in enumerate(waited):
                if weight >= self._batch:
                    self._lines[line] = waited[place:]
                    break
                call.waits = False
                self._waiting -= 1
                self.weight -= call.weight
                if not call.done:
                    flight.calls.append(call)
                    weight += call.weight
        self._flights.append(flight)
        self._look()
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
        if customer_id in self._lines:
            self._ready.remove(customer_id)
        return True

    def land(self, flight: Flight) -> None:
        """End a flight: its lines may fly again."""
        self._flights.remove(flight)
        self._look()
        self._flown -= flight.lines
        self._ready.extend(line for line in flight.lines if line in self._lines)
        if self._ready:
            self._wake.set()

    def all(self) -> list[Call]:
        """Every call that is in a flight or waits."""
        flying = [call for flight in self._flights for call in flight.calls]
        return [*flying, *(call for line in self._lines.values() for call in line)]

    def clear(self) -> None:
        """Forget what waits."""
        self._lines.clear()
        self._ready.clear()
        self._waiting = self.weight = 0

    def _may_fly(self) -> bool:
        """Whether another flight is worth it: a small one would cost as much as a large one."""
        if len(self._flights) >= SMALL_FLIGHTS and self.weight < LARGE:
            return False
        return bool(self._ready) and self._waiting * 2 >= self._smallest

    def _look(self) -> None:
        self._smallest = min([len(flight.calls) for flight in self._flights], default=0)
