"""Who may work now: a pool of workers with a bounded queue before it, first come, first served."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeAlias, TypeVar

from insignia_index import CancelToken
from insignia_model.errors import Overloaded

T = TypeVar("T")


_Job: TypeAlias = Callable[[int], None]  # is told how many threads it may use


class Lane:
    """At most ``max_concurrent`` calls at once, ``max_queued`` more waiting, others refused.

    ``threads`` are shared: work that runs alone is offered all of them, work in company its part, at least
    one. A worker takes its next call from the queue itself: by way of the event loop it would idle meanwhile.
    All methods but `close` are for the thread of the event loop.
    """

    def __init__(self, name: str, *, max_concurrent: int, max_queued: int, threads: int = 1) -> None:
        self._max_concurrent = max_concurrent
        self._max_queued = max_queued
        self._threads = threads
        self._n_open = 0  # calls that run or wait
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._workers = [
            threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True)
            for i in range(max_concurrent)
        ]
        for worker in self._workers:
            worker.start()

    @property
    def load(self) -> tuple[int, int]:
        """How many run and how many wait."""
        n_running = min(self._n_open, self._max_concurrent)
        return n_running, self._n_open - n_running

    async def run(self, work: Callable[[int], T], cancel: CancelToken, *, admitted: bool = False) -> T:
        """Result of ``work(threads)``, done by a worker. ``admitted``: wait even where the queue is full.

        If the caller is cancelled, waiting work is dropped; running work has its token cancelled, and its
        place is free once it has really ended.
        """
        if self._n_open >= self._max_concurrent + self._max_queued and not admitted:
            raise Overloaded(self._max_queued)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        call = _Call(work, future, self._close)
        self._n_open += 1
        self._jobs.put(call)
        try:
            return await future
        except asyncio.CancelledError:
            cancel.cancel()
            if call.drop():
                self._close()
            raise

    def afterwards(self, work: Callable[[], None]) -> None:
        """Have a worker tidy up when one is free; nobody waits for it."""
        self._jobs.put(lambda _: work())

    def close(self) -> None:
        """Wait until the work that runs has ended, then end the workers. For any thread."""
        for _ in self._workers:
            self._jobs.put(None)
        for worker in self._workers:
            worker.join()

    def _close(self) -> None:
        self._n_open -= 1

    def _work(self) -> None:
        while self._do_next():
            pass

    def _do_next(self) -> bool:
        # a function of its own, so that a worker that waits holds no earlier request and answer
        job = self._jobs.get()
        if job is not None:
            job(max(1, self._threads // max(1, self._n_open)))
        return job is not None


class _Call(Generic[T]):
    """Work whose result a coroutine awaits. Either a worker does it or its caller drops it, never both."""

    __slots__ = ("_ended", "_future", "_taken", "_work")

    def __init__(
        self, work: Callable[[int], T], future: asyncio.Future[T], ended: Callable[[], None]
    ) -> None:
        self._work = work
        self._future = future
        self._ended = ended
        self._taken = threading.Lock()

    def drop(self) -> bool:
        """Whether no worker has begun, and so none will."""
        if not self._taken.acquire(blocking=False):
            return False
        del self._work  # the queue holds this object until its turn, but not the request
        return True

    def __call__(self, threads: int) -> None:
        """Do the work, unless it was dropped, and hand its outcome to the event loop."""
        if not self._taken.acquire(blocking=False):
            return
        loop = self._future.get_loop()
        try:
            result = self._work(threads)
        except BaseException as error:
            loop.call_soon_threadsafe(self._settle, self._future.set_exception, error)
        else:
            loop.call_soon_threadsafe(self._settle, self._future.set_result, result)

    def _settle(self, outcome: Callable[[Any], None], value: object) -> None:
        self._ended()
        if not self._future.cancelled():
            outcome(value)
