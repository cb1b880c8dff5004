"""The decide loop: take what waits, fill the copies, decide, write once, answer.

Exactness rests on one thing: an answer is given only after the database confirmed, in the
statement that wrote it, that the versions decided on still stand. Everything else here (copies,
batches, retries) is about speed and may fail without harm: a copy is dropped, a call decided
again, and ids make writing twice impossible.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from metering.gate import answers, metrics
from metering.gate.calls import Call, Check, Closing, Reference, Reported, Work
from metering.gate.catalogue import Catalogue
from metering.gate.checks import Bounds, decide_check
from metering.gate.copies import Copies, names
from metering.gate.events import count_events
from metering.gate.filling import fill, look_up
from metering.gate.holds import decide_closing, expire
from metering.gate.rows import parameters
from metering.gate.store import Found, Store, Unavailable
from metering.gate.wire import Problem

log = logging.getLogger(__name__)
LOSSES_BEFORE_LOCK = 3
EXPIRED_AT_ONCE = 500
RETRY_PAUSE_S = 0.05
REAP_EVERY_S = 0.05
Written = tuple[dict[int, Work], int, set[int]]  # by customer, the catalogue's version, confirmed


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the engine takes at once and keeps."""

    queue: int
    batch: int
    copies: int


class Overloaded(Exception):
    """More waits than can be answered in time."""


class Engine:
    """One per process. `submit` puts a call in; its `done` is set when it has an answer."""

    def __init__(self, store: Store, *, bounds: Bounds, limits: Limits) -> None:
        self._store = store
        self._bounds = bounds
        self._limits = limits
        self._waiting: deque[Call] = deque()
        self._weight = 0
        self._wake = asyncio.Event()
        self._copies = Copies(max(limits.copies, limits.batch))
        self.catalogue = Catalogue(version=-1)
        self._current: list[Call] = []
        self._reads_begun = self._reads_done = 0
        self._refreshing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to decide; must be called in the running loop."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run()), loop.create_task(self._reap())]

    async def stop(self) -> None:
        """Stop deciding; what still waits is answered 503."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for call in (*self._current, *self._waiting):
            self._fail(call, _unavailable())
        self._waiting.clear()
        await self._store.close()

    def submit(self, call: Call) -> None:
        """Put a call in the queue; raises Overloaded where it is full."""
        if self._weight + call.weight > self._limits.queue:
            metrics.OVERLOADED.inc()
            raise Overloaded
        self._waiting.append(call)
        self._weight += call.weight
        self._wake.set()

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

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            batch = self._take()
            if not batch:
                self._wake.clear()
                continue
            await self._survive(batch)

    async def _survive(self, batch: list[Call]) -> None:
        """Process a batch; whatever happens, each of its calls is answered or waits again."""
        if not batch:
            return
        self._current = batch
        try:
            await self._process(batch)
        except Unavailable as error:
            log.warning("database unavailable: %s", error)
            self._copies.clear()
            for call in batch:
                call.interrupted = True
            self._put_back(batch)
            await asyncio.sleep(RETRY_PAUSE_S)
        except Exception as error:
            # The database refused the batch, or a call met a fault of ours: find the culprit, so
            # that its neighbours are answered.
            self._copies.clear()
            if len(batch) == 1:
                log.exception("a call could not be decided")
                self._fail(batch[0], Problem("internal_error", "Something is wrong on our side."))
                return
            log.warning("a batch of %d is split: %s", len(batch), error)
            metrics.SPLITS.inc()
            middle = len(batch) // 2
            for half in (batch[:middle], batch[middle:]):
                left = [call for call in half if not call.done.done()]
                for call in left:
                    call.interrupted = True
                await self._survive(left)

    def _take(self) -> list[Call]:
        batch: list[Call] = []
        weight = 0
        while self._waiting and weight < self._limits.batch:
            call = self._waiting.popleft()
            self._weight -= call.weight
            if call.done.done():
                continue
            batch.append(call)
            weight += call.weight
        return batch

    def _put_back(self, calls: Sequence[Call]) -> None:
        for call in reversed(calls):
            if not call.done.done():
                self._waiting.appendleft(call)
                self._weight += call.weight
        if self._waiting:
            self._wake.set()

    async def _reap(self) -> None:
        """Answer 503 to calls that waited too long, also while the database hangs."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(REAP_EVERY_S)
            now = loop.time()
            for call in (*self._waiting, *self._current):
                if call.deadline <= now:
                    self._fail(call, _unavailable())

    @staticmethod
    def _fail(call: Call, refused: Problem) -> None:
        if call.done.done():
            return
        if isinstance(call, Reported):
            call.refuse(refused)
        call.answer = answers.problem(refused, base_url="")
        call.failure = refused
        call.done.set_result(None)

    async def _process(self, batch: list[Call]) -> None:
        """Decide a batch; what has lost too often goes alone, under its customer's lock."""
        stubborn: dict[Reference, list[Call]] = {}
        others: list[Call] = []
        for call in batch:
            if call.losses >= LOSSES_BEFORE_LOCK:
                stubborn.setdefault(call.reference, []).append(call)
            else:
                others.append(call)
        if others:
            await self._round(others)
        for calls in stubborn.values():
            await fill(calls, self._copies, self._store, now=datetime.now(UTC))
            customer_id = self._copies.customer_of(calls[0].reference)
            if customer_id is None:
                await self._round(calls)
                continue
            async with self._store.locked(customer_id):
                self._copies.drop(customer_id)
                written = await self._write(calls)
            await self._conclude(written)  # the commit is behind us only here

    async def _round(self, batch: list[Call]) -> None:
        await self._conclude(await self._write(batch))

    async def _write(self, batch: list[Call]) -> Written:
        """Decide a batch and write it. Nobody is answered yet: a commit may still be ahead."""
        now = datetime.now(UTC)
        with metrics.TRANSACTION.time():
            await self.ready_catalogue()
            await fill(batch, self._copies, self._store, now=now)
            found = await look_up(batch, self._copies, self._store, now=now)
            works = self._group(batch)
            await self._expire(works, now)
            for work in works.values():
                self._decide(work, found, now)
            if not works:
                return works, self.catalogue.version, set()
            catalogue, held = await self._store.write(
                parameters(works.values(), catalogue=self.catalogue.version, now=now)
            )
        metrics.BATCH.observe(len(batch))
        return works, catalogue, held

    async def _conclude(self, written: Written) -> None:
        """Answer whom the database confirmed, and let the others wait for another round."""
        works, catalogue, held = written
        self._answer(works, held)
        if catalogue != self.catalogue.version:
            self.catalogue = await self._store.read_catalogue()

    def _group(self, batch: Sequence[Call]) -> dict[int, Work]:
        works: dict[int, Work] = {}
        for call in batch:
            account = self._copies.of(call.reference)
            if account is None or not names(call.reference, account):
                self._fail(call, _unknown(call))
                continue
            work = works.get(account.customer_id)
            if work is None:
                work = works[account.customer_id] = Work(account)
            work.calls.append(call)
        return works

    async def _expire(self, works: dict[int, Work], now: datetime) -> None:
        due = [
            customer_id
            for customer_id, work in works.items()
            if work.account.next_expiry_at is not None and work.account.next_expiry_at <= now
        ]
        if not due:
            return
        for customer_id in due:
            works[customer_id].forget = True
        for customer_id, key, allocation in await self._store.read_expired_holds(
            due, now=now, most=EXPIRED_AT_ONCE
        ):
            expire(works[customer_id], key, allocation)
            metrics.EXPIRED.inc()

    def _decide(self, work: Work, found: dict[tuple[int, UUID], Found], now: datetime) -> None:
        for call in list(work.calls):
            if call.done.done():
                continue  # answered 503 meanwhile: its answer must not change any more
            try:
                self.catalogue.caller(call.gateway_key, now=now)
                if isinstance(call, Check):
                    call.answer = decide_check(
                        call,
                        work,
                        catalogue=self.catalogue,
                        found=found,
                        now=now,
                        bounds=self._bounds,
                    )
                elif isinstance(call, Closing):
                    call.answer = decide_closing(
                        call, work, catalogue=self.catalogue, found=found, now=now
                    )
                elif isinstance(call, Reported):
                    call.fates.clear()
                    count_events(
                        call,
                        work,
                        catalogue=self.catalogue,
                        found=found,
                        now=now,
                        bounds=self._bounds,
                    )
                call.failure = None
            except Problem as refused:
                # Said of the copy, so it waits for the version's confirmation like any answer.
                call.answer = answers.problem(refused, base_url="")
                call.failure = refused

    def _answer(self, works: dict[int, Work], held: set[int]) -> None:
        lost: list[Call] = []
        for customer_id, work in works.items():
            if customer_id not in held:
                self._copies.drop(customer_id)
                lost += work.calls
                for call in work.calls:
                    call.losses += 1
                metrics.LOST.inc(len(work.calls))
                continue
            if work.forget:
                self._copies.drop(customer_id)
            elif work.writes:
                work.account.version += 1
                for key in work.deltas.balances:
                    balance = work.account.balances.get(key)
                    if balance is not None:
                        balance.stored = True
            for call in work.calls:
                if not call.done.done():
                    call.done.set_result(None)
        self._put_back(lost)


def _unknown(call: Call) -> Problem:
    if call.reference.digest is not None:
        return Problem("key_unknown", "No customer has this key.", param="key")
    if isinstance(call, Closing):
        return Problem("not_found", "There is no hold with this id.")
    return Problem("customer_unknown", "There is no such customer.", param="customer")


def _unavailable() -> Problem:
    return Problem("unavailable", "The decision could not be made in time; retry with the same id.")
