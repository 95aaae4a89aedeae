"""Running a search's tasks on several threads, and the buffers that they reuse."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

#: Cells between two checks for a cancellation: with 200 genes about 10 ms.
TASK_CELLS = 262_144


class Threads:
    """Worker threads for kernels that release the GIL; the calling thread always works too."""

    def __init__(self, n_threads: int | None = None) -> None:
        self.n_threads = n_threads or len(os.sched_getaffinity(0))
        self._helpers = ThreadPoolExecutor(max(1, self.n_threads - 1), "insignia-search")

    def share(self, work: Callable[[], None], n_threads: int) -> None:
        """Call ``work`` here and on up to ``n_threads - 1`` helpers; raises the first error when all stopped.

        ``work`` takes parts of one whole until none is left, so that a helper that comes late, because other
        searches keep it busy, is not waited for.
        """
        asked: list[Future[None]] = []
        # once closed, which a stream of scores may outlive, the caller works alone
        with suppress(RuntimeError):
            for _ in range(n_threads - 1):
                asked.append(self._helpers.submit(work))
        try:
            work()
        finally:
            begun = [helper for helper in asked if not helper.cancel()]
            wait(begun)
        for helper in begun:
            helper.result()

    def close(self) -> None:
        """End the threads."""
        self._helpers.shutdown()


class BackgroundThreads(Threads):
    """Threads for long work, which give way to those of others: the caller waits and does not work."""

    #: Nine levels of it leave a thread about a tenth of the time of one that has not been told to give way.
    _NICENESS = 10

    def __init__(self, n_threads: int | None = None) -> None:
        super().__init__(n_threads)
        self._helpers = ThreadPoolExecutor(self.n_threads, "insignia-screen", self._give_way)

    def _give_way(self) -> None:
        with suppress(OSError, AttributeError):  # elsewhere than on Linux a thread has no priority of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._NICENESS)

    def share(
        self, work: Callable[[], None], n_threads: int, meanwhile: Callable[[], None] | None = None
    ) -> None:
        """Call ``work`` on ``n_threads`` threads, or on all; raises the first error when all stopped.

        The caller calls ``meanwhile`` before it waits.
        """
        asked: list[Future[None]] = []
        # once closed, which a screen may outlive, the caller works alone
        with suppress(RuntimeError):
            for _ in range(min(n_threads, self.n_threads)):
                asked.append(self._helpers.submit(work))
        if not asked:
            work()
        if meanwhile:
            meanwhile()
        wait(asked)
        for call in asked:
            call.result()


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
