"""The decide loops: take what waits, fill the copies, decide, write once, answer.

Exactness rests on one thing: an answer is given only after the database confirmed, in the
statement that wrote it, that the versions decided on still stand. Everything else here (copies,
batches, retries) is about speed and may fail without harm: a copy is dropped, a call decided
again, and ids make writing twice impossible.

There are a few loops, each with a connection of its own: while the database writes one flight of
calls (lines.py), the next one is decided.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from metering.gate import answers, metrics, tally
from metering.gate.calls import Call, Reference, Reported, Work, nobody_named
from metering.gate.catalogue import Catalogue
from metering.gate.clocks import ClockOff, ClockWatch
from metering.gate.copies import Copies
from metering.gate.deciding import decide, decide_by_turns
from metering.gate.events import Counting
from metering.gate.filling import fill, look_for_members, look_up
from metering.gate.holds import expire
from metering.gate.items import Bounds, Limits
from metering.gate.lines import FEW, Flight, Lines
from metering.gate.parameters import parameters
from metering.gate.room import Room
from metering.gate.store import Store, Unavailable
from metering.gate.turns import PIECE, Turns
from metering.gate.wire import FAULT, TOO_LATE, Problem

log = logging.getLogger(__name__)
LOSSES_BEFORE_LOCK = 3
EXPIRED_AT_ONCE = 500  # of a customer
RETRY_PAUSE_S = 0.05
REAP_EVERY_S = 0.05


@dataclass(slots=True)
class Written:
    """What the database said of a write."""

    works: dict[int, Work]
    decided_on: Catalogue
    catalogue: int  # its version now
    held: set[int]  # customers whose answers stand


class Overloaded(Exception):
    """More waits than can be answered in time. `room`: the one that is full, if one is."""

    def __init__(self, room: Room | None = None) -> None:
        super().__init__()
        self.room = room


class Engine:
    """One per process. `submit` puts a call in; its `done` is set when it has an answer."""

    def __init__(self, store: Store, *, bounds: Bounds, limits: Limits) -> None:
        self._store = store
        self._bounds = bounds
        self._limits = limits
        self._lines = Lines(batch=limits.batch, queue=limits.queue)
        self._clock = ClockWatch()
        self.room, self.batches = Room(limits.wait_s), Room(limits.wait_s)
        self.turns = Turns(self._lines.others_ask)
        self._copies = Copies(max(limits.copies, limits.flights * limits.batch))
        self.catalogue = Catalogue(version=-1)
        self._reads_begun = self._reads_done = 0
        self._reap_at = math.inf  # before then no call has waited too long
        self._refreshing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._stores = [store, *(store.twin() for _ in range(limits.flights - 1))]

    def start(self) -> None:
        """Begin to decide; must be called in the running loop."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run(store)) for store in self._stores]
        self._tasks.append(loop.create_task(self._reap()))

    async def stop(self) -> None:
        """Stop deciding; what still waits is answered 503."""
        left = self._lines.all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for call in (*left, *self._lines.all()):
            self._fail(call, TOO_LATE)
        self._lines.clear()
        for store in self._stores:
            await store.close()

    def is_full(self, *, of_many: bool) -> bool:
        """Whether nothing more can wait: whoever asks now is refused, whatever it is."""
        return not self._lines.free(of_many=of_many)

    def room_for(self, calls: int) -> Room:
        """Where a request of so many calls is counted while it waits."""
        return self.batches if calls > FEW else self.room

    def submit(self, calls: Sequence[Call]) -> None:
        """Put calls in their lines, all of them; raises Overloaded where too many wait."""
        weight, since, reap_at = 0, time.monotonic(), self._reap_at
        customer_of = self._copies.customer_of
        for call in calls:
            call.since = since
            reap_at = min(reap_at, call.deadline)
            weight += call.weight
            reference = call.reference
            customer_id = customer_of(reference)
            call.queue = reference if customer_id is None else customer_id
        self._reap_at = reap_at
        if of_many := weight > FEW:
            for call in calls:
                call.of_many = True
        if not self._lines.fit(weight, of_many=of_many):
            raise Overloaded(self.batches if of_many else None)
        self._lines.put(calls)

    async def ready_catalogue(self) -> Catalogue:
        """The catalogue, read where it never was; raises Unavailable."""
        if self.catalogue.version < 0:
            return await self.refreshed_catalogue()
        return self.catalogue

    async def refreshed_catalogue(self) -> Catalogue:
        """The catalogue as the database has it now: a key that is not in the copy may be new.

        May be cancelled: the connection is shared, so a read goes on without its caller.
        """
        asked = self._reads_begun
        async with self._refreshing:
            if self._reads_done <= asked:  # else one that began after we asked came through
                self._reads_begun = number = self._reads_begun + 1
                reading = asyncio.ensure_future(self._store.read_catalogue())
                self.catalogue = await asyncio.shield(reading)
                self._reads_done = number
        return self.catalogue

    async def _run(self, store: Store) -> None:
        while True:
            flight = await self._lines.take()
            if flight.calls:
                waited = time.monotonic() - flight.calls[0].since
                metrics.QUEUE_WAIT.observe(waited)
            try:
                await self._survive(flight.calls, flight, store)
            finally:
                self._lines.land(flight)

    async def _survive(self, calls: list[Call], flight: Flight, store: Store) -> None:
        """Process calls; whatever happens, each of them is answered or waits again."""
        if not calls:
            return
        try:
            await self._process(calls, flight, store)
        except Unavailable as error:
            log.warning("database unavailable: %s", error)
            self._copies.clear()
            for call in calls:
                call.interrupted = True
            self._lines.put_back(calls)
            await asyncio.sleep(RETRY_PAUSE_S)
        except ClockOff as error:
            self._clock.is_off(error)
            self._copies.clear()
            for call in calls:
                if not call.waits:
                    self._fail(call, error.problem)
        except Exception as error:
            # The database refused the batch, or a call met a fault of ours: find the culprit, so
            # that its neighbours are answered.
            self._copies.clear()
            if len(calls) > 1:
                log.warning("a batch of %d is split: %s", len(calls), error)
                await self._split(calls, flight, store)
            else:
                log.exception("a call could not be decided")
                if not calls[0].waits:
                    self._fail(calls[0], FAULT)

    async def _split(self, calls: list[Call], flight: Flight, store: Store) -> None:
        metrics.SPLITS.inc()
        middle = len(calls) // 2
        for half in (calls[:middle], calls[middle:]):
            left = [call for call in half if not (call.done or call.waits)]
            for call in left:
                call.interrupted = True
            await self._survive(left, flight, store)

    async def _reap(self) -> None:
        """Answer 503 to calls that waited too long, also while the database hangs."""
        while True:
            await asyncio.sleep(REAP_EVERY_S)
            now = time.monotonic()
            if now < self._reap_at:
                continue
            self._reap_at = math.inf
            for call in self._lines.all():
                if call.deadline <= now:
                    self._fail(call, TOO_LATE)
                else:
                    self._reap_at = min(self._reap_at, call.deadline)

    @staticmethod
    def _fail(call: Call, refused: Problem) -> None:
        if call.done:
            return
        if isinstance(call, Reported):
            call.refuse(refused)
        call.answer = answers.problem(refused, base_url="")
        call.failure = refused
        tally.count_refused(call, refused.code)
        call.finish()

    async def _process(self, calls: list[Call], flight: Flight, store: Store) -> None:
        """Decide calls; what has lost too often goes alone, under its customer's lock."""
        stubborn: dict[Reference, list[Call]] = {}
        others: list[Call] = []
        for call in calls:
            if call.losses >= LOSSES_BEFORE_LOCK:
                stubborn.setdefault(call.reference, []).append(call)
            else:
                others.append(call)
        if others:
            await self._conclude(await self._write(others, flight, store), store)
        for lost in stubborn.values():
            await fill(lost, self._copies, store, now=datetime.now(UTC), bounds=self._bounds)
            customer_id = self._copies.customer_of(lost[0].reference)
            if customer_id is None:
                await self._conclude(await self._write(lost, flight, store), store)
                continue
            async with store.locked(customer_id):
                self._copies.drop(customer_id)
                written = await self._write(lost, flight, store, locked=True)
            await self._conclude(written, store)  # the commit is behind us only here

    async def _write(
        self, calls: list[Call], flight: Flight, store: Store, *, locked: bool = False
    ) -> Written:
        """Decide calls and write them. Nobody is answered yet: a commit may still be ahead."""
        by_turns = flight.of_many and not locked  # nobody waits for others behind a lock
        if by_turns:
            await self.turns.turn()
        now = datetime.now(UTC)
        with metrics.TRANSACTION.time():
            catalogue = await self.ready_catalogue()
            changes = self._copies.changes
            nobody = await fill(calls, self._copies, store, now=now, bounds=self._bounds)
            if catalogue.counts_members:
                await look_for_members(
                    calls,
                    self._copies,
                    store,
                    catalogue=catalogue,
                    now=now,
                    bounds=self._bounds,
                )
            found = await look_up(calls, self._copies, store, now=now)
            if changes != self._copies.changes:
                for call in calls:
                    call.copy = self._copies.named(call.reference)
            works = self._group(calls, flight, nobody, members=catalogue.counts_members)
            await self._expire(works, now, store)
            counting = Counting(catalogue, found, now, self._bounds)
            if by_turns:
                await decide_by_turns(works.values(), counting, self.turns)
                await self.turns.turn()
            else:
                for work in works.values():
                    decide(work, counting)
            if not works:
                return Written(works, catalogue, catalogue.version, set())
            with metrics.WRITE.time():
                version, held = await store.write(
                    *parameters(
                        works,
                        catalogue=catalogue.version,
                        now=now,
                        apart=self._bounds.clocks_apart,
                    )
                )
                self._clock.agrees()
        metrics.BATCH.observe(len(calls))
        return Written(works, catalogue, version, held)

    async def _conclude(self, written: Written, store: Store) -> None:
        """Answer whom the database confirmed, and let the others wait for another round."""
        if len(written.works) > PIECE:
            await self.turns.turn()
        self._answer(written)
        if written.catalogue != written.decided_on.version:
            self.catalogue = await store.read_catalogue()

    def _group(
        self, calls: Sequence[Call], flight: Flight, nobody: set[Reference], *, members: bool
    ) -> dict[int, Work]:
        """The work of each customer; a customer of another flight waits for that one to land.

        `nobody`: references that lead to no customer. `members`: a copy that came since its
        members were looked up waits as well.
        """
        works: dict[int, Work] = {}
        early: list[Call] = []
        for call in calls:
            if nobody and call.reference in nobody:
                self._fail(call, nobody_named(call))
                continue
            account, call.copy = call.copy, None
            if account is None:
                early.append(call)  # its copy was dropped while this flight was still reading
                continue
            # From here on its line is its customer's: calls that wait again keep their order only
            # in one line, and they may have come in one of how a key or an outside id named them.
            customer_id = call.queue = account.customer_id
            if members and call.looked_up_in is not account:
                early.append(call)
                continue
            work = works.get(customer_id)
            if work is None:
                if not self._lines.claim(customer_id, flight):
                    early.append(call)
                    continue
                work = works[customer_id] = Work(account)
            work.calls.append(call)
        self._lines.put_back(early)
        return works

    async def _expire(self, works: dict[int, Work], now: datetime, store: Store) -> None:
        due = [
            customer_id
            for customer_id, work in works.items()
            if work.account.next_expiry_at is not None and work.account.next_expiry_at <= now
        ]
        if not due:
            return
        for customer_id in due:
            works[customer_id].forget = True
        expired = await store.read_expired_holds(due, now=now, most=EXPIRED_AT_ONCE)
        for customer_id, key, allocation in expired:
            expire(works[customer_id], key, allocation)
        for customer_id, found in Counter(row[0] for row in expired).items():
            if found >= EXPIRED_AT_ONCE:  # there may be more: its calls wait until all are free
                waiting, works[customer_id].calls = works[customer_id].calls, []
                self._lines.put_back(waiting)

    def _answer(self, written: Written) -> None:
        lost: list[Call] = []
        tally.count_landed(written.works[each] for each in written.works.keys() & written.held)
        for customer_id, work in written.works.items():
            if customer_id not in written.held:
                self._copies.drop(customer_id)
                lost += work.calls
                for call in work.calls:
                    call.losses += 1
                metrics.LOST.inc(len(work.calls))
                continue
            if work.forget or work.writes:
                self._keep(work)
            for call in work.calls:
                if not call.done:
                    call.finish()
        if lost:
            self._lines.put_back(lost)

    def _keep(self, work: Work) -> None:
        """Let the copy be what was written, unless it no longer tells all, or tells too much."""
        account = work.account
        if not work.forget:
            work.settle_in()
        if work.forget or account.remembers_too_many:
            self._copies.drop(account.customer_id)
        elif account.members and account.knows_too_many:
            self._copies.keep(account.without_members())
