"""Who may work now: a pool of workers with a bounded queue before it, first come, first served."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from insignia_index import CancelToken
from insignia_model.errors import Overloaded

T = TypeVar("T")


class Lane:
    """At most ``max_concurrent`` calls at once, ``max_queued`` more waiting, others refused.

    ``threads`` are shared: work that runs alone is offered all of them, work in company its part, at least
    one. All methods but `close` are for the thread of the event loop.
    """

    def __init__(self, name: str, *, max_concurrent: int, max_queued: int, threads: int = 1) -> None:
        self._max_concurrent = max_concurrent
        self._max_queued = max_queued
        self._threads = threads
        self._n_running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._workers = Workers(name, max_concurrent)

    @property
    def load(self) -> tuple[int, int]:
        """How many run and how many wait."""
        return self._n_running, len(self._waiting)

    async def run(self, work: Callable[[int], T], cancel: CancelToken, *, admitted: bool = False) -> T:
        """Result of ``work(threads)``, done by a worker. ``admitted``: wait even where the queue is full.

        If the caller is cancelled, waiting work is dropped; running work has its token cancelled, and its
        place is free once it has really ended.
        """
        await self._enter(admitted)
        share = max(1, self._threads // (self._n_running + len(self._waiting)))
        try:
            return await self._workers.submit(work, share, self._leave)
        except asyncio.CancelledError:
            cancel.cancel()
            raise

    def afterwards(self, work: Callable[[], None]) -> None:
        """Have a worker tidy up when one is free; nobody waits for it."""
        self._workers.submit(lambda _: work(), 1, lambda: None)

    def close(self) -> None:
        """Wait until the work that runs has ended, then end the workers. For any thread."""
        self._workers.close()

    async def _enter(self, admitted: bool) -> None:
        if self._n_running < self._max_concurrent:
            self._n_running += 1
            return
        if len(self._waiting) >= self._max_queued and not admitted:
            raise Overloaded(self._max_queued)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):  # a worker that ended meanwhile passed it over
                    self._waiting.remove(turn)
            else:  # the place came in the same moment: hand it on
                self._leave()
            raise

    def _leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._n_running -= 1


class Workers:
    """Threads that do work and hand the result to the event loop.

    A ThreadPoolExecutor under `asyncio.shield` does the same for about 100 microseconds more a call, where
    gRPC itself takes 350.
    """

    def __init__(self, name: str, n_threads: int) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True) for i in range(n_threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[int], T], threads: int, ended: Callable[[], None]) -> asyncio.Future[T]:
        """Future of ``work(threads)``; the loop calls ``ended`` when the work is over, cancelled or not."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(outcome: Callable[[Any], None], value: object) -> None:
            ended()
            if not future.cancelled():
                outcome(value)

        def job() -> None:
            try:
                outcome, value = future.set_result, work(threads)
            except BaseException as error:
                loop.call_soon_threadsafe(settle, future.set_exception, error)
            else:
                loop.call_soon_threadsafe(settle, outcome, value)

        self._jobs.put(job)
        return future

    def close(self) -> None:
        """Finish what was submitted, then end the threads."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
