"""Running a search's tasks on several threads, and the buffers that they reuse."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

#: Cells between two checks for a cancellation: with 200 genes about 10 ms.
TASK_CELLS = 262_144


class _Call:
    """Work that a helper is asked for, until the caller has no more use for it."""

    __slots__ = ("_begun", "_ended", "_work", "error")

    def __init__(self, work: Callable[[], None]) -> None:
        self._work: Callable[[], None] | None = work
        self._begun, self._ended = threading.Lock(), threading.Lock()
        self._ended.acquire()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do it, unless the caller was faster."""
        if self._begun.acquire(blocking=False):
            try:
                if self._work is not None:
                    self._work()
            except BaseException as error:  # the caller's to raise
                self.error = error
            finally:
                self._ended.release()

    def finish(self, may_return: bool) -> None:
        """Wait for the end if it has begun, unless it ``may_return`` later; else it never will begin."""
        if self._begun.acquire(blocking=False):
            self._work = None
        elif not may_return:
            self._ended.acquire()


class Threads:
    """Worker threads for kernels that release the GIL; the calling thread always works too.

    Not a `ThreadPoolExecutor`: its futures and their conditions take 50 microseconds of a search that shares
    its work twice, a queue and two locks 15.
    """

    def __init__(self, n_threads: int | None = None) -> None:
        self.n_threads = n_threads or len(os.sched_getaffinity(0))
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._starting = threading.Lock()
        self._helpers: list[threading.Thread] = []
        self._is_closed = False

    def share(
        self, work: Callable[[], None], n_threads: int, is_done: Callable[[], bool] | None = None
    ) -> None:
        """Call ``work`` here and on up to ``n_threads - 1`` helpers; raises the first error when all stopped.

        ``work`` takes parts of one whole until none is left, so that a helper that comes late, because other
        searches keep it busy, is not waited for; nor is one that has no more to do than to return, if
        ``is_done`` says so.
        """
        asked = self._ask(work, n_threads - 1) if n_threads > 1 else ()
        may_return = False
        try:
            work()
            may_return = is_done is not None and is_done()
        finally:
            for call in asked:
                call.finish(may_return)
        for call in asked:
            if call.error is not None:
                raise call.error

    def _ask(self, work: Callable[[], None], n_helpers: int) -> Sequence[_Call]:
        if len(self._helpers) < self.n_threads - 1:
            self._start()
        if self._is_closed:  # which a stream of scores may outlive: the caller works alone
            return ()
        asked = [_Call(work) for _ in range(n_helpers)]
        for call in asked:
            self._calls.put(call)
        return asked

    def _start(self) -> None:
        with self._starting:
            while len(self._helpers) < self.n_threads - 1 and not self._is_closed:
                name = f"insignia-search-{len(self._helpers)}"
                helper = threading.Thread(target=_help, args=(self._calls,), name=name, daemon=True)
                helper.start()
                self._helpers.append(helper)

    def close(self) -> None:
        """End the threads."""
        with self._starting:
            self._is_closed = True
            helpers, self._helpers = self._helpers, []
        for _ in helpers:
            self._calls.put(None)
        for helper in helpers:
            helper.join()


def _help(calls: SimpleQueue[_Call | None]) -> None:
    # a thread's function, and none of its object's: an object that nobody closes can be collected
    while (call := calls.get()) is not None:
        call.run()
        del call  # with the arrays of its work


class BackgroundThreads(Threads):
    """Threads for long work, which give way to those of others: the caller waits and does not work."""

    #: Nine levels of it leave a thread about a tenth of the time of one that has not been told to give way.
    _NICENESS = 10

    def __init__(self, n_threads: int | None = None) -> None:
        super().__init__(n_threads)
        self._executor = ThreadPoolExecutor(self.n_threads, "insignia-screen", self._give_way)

    def _give_way(self) -> None:
        with suppress(OSError, AttributeError):  # elsewhere than on Linux a thread has no priority of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._NICENESS)

    def share(
        self,
        work: Callable[[], None],
        n_threads: int,
        is_done: Callable[[], bool] | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Call ``work`` on ``n_threads`` threads, or on all; raises the first error when all stopped.

        The caller calls ``meanwhile`` before it waits.
        """
        asked: list[Future[None]] = []
        # once closed, which a screen may outlive, the caller works alone
        with suppress(RuntimeError):
            for _ in range(min(n_threads, self.n_threads)):
                asked.append(self._executor.submit(work))
        if not asked:
            work()
        if meanwhile:
            meanwhile()
        wait(asked)
        for call in asked:
            call.result()

    def close(self) -> None:
        """End the threads."""
        self._executor.shutdown()


def split(weights: npt.NDArray[np.int64], at_most: int) -> list[tuple[int, int]]:
    """Runs [first, last) of items, of about equal weight, about ``at_most``."""
    ends = np.cumsum(weights)
    total = int(ends[-1]) if len(ends) else 0
    n_runs = -(-total // at_most)
    if n_runs <= 1:
        return [(0, len(weights))] if total else []
    edges = np.searchsorted(ends, np.arange(1, n_runs) * (total / n_runs)) + 1
    cuts = sorted({0, len(weights), *edges.tolist()})
    return list(pairwise(cuts))


class Buffers:
    """Arrays that searches hand on to one another: fresh memory costs a page fault every 4 KiB."""

    _KEPT_BYTES = 1 << 30

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: dict[tuple[str, int, str], list[npt.NDArray[Any]]] = {}
        self._free_bytes = 0

    def take(self, name: str, n: int, dtype: Any) -> npt.NDArray[Any]:
        """Array (n,), contents unspecified, except that an ``accumulator`` is zero."""
        with self._lock:
            free = self._free.get((name, n, np.dtype(dtype).str))
            if free:
                self._free_bytes -= free[-1].nbytes
                return free.pop()
        return np.zeros(n, dtype) if name == "accumulator" else np.empty(n, dtype)

    def give(self, name: str, array: npt.NDArray[Any]) -> None:
        """Hand an array back; nobody may use it any more. An ``accumulator`` must be zero again."""
        with self._lock:
            if self._free_bytes + array.nbytes <= self._KEPT_BYTES:
                self._free.setdefault((name, len(array), array.dtype.str), []).append(array)
                self._free_bytes += array.nbytes
