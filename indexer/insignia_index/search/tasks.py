"""Running a search's tasks on several threads, and the buffers that they reuse."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

#: Cells between two checks for a cancellation: with 200 genes about 10 ms.
TASK_CELLS = 262_144


class Threads:
    """Worker threads for kernels that release the GIL; the calling thread always works too.

    A `concurrent.futures` pool does the same for some 0.1 ms more a phase, a tenth of a search.
    """

    def __init__(self, n_threads: int | None = None) -> None:
        self.n_threads = n_threads or len(os.sched_getaffinity(0))
        self._queue: SimpleQueue[_Shared | None] = SimpleQueue()
        self._helpers = [
            threading.Thread(target=self._help, name=f"insignia-search-{i}", daemon=True)
            for i in range(self.n_threads - 1)
        ]
        for helper in self._helpers:
            helper.start()

    def share(self, work: Callable[[], None], n_threads: int) -> None:
        """Call ``work`` here and on up to ``n_threads - 1`` helpers; raises the first error when all stopped.

        ``work`` takes parts of one whole until none is left, so that a helper that comes late, because other
        searches keep it busy, is not waited for.
        """
        if n_threads <= 1:
            work()
            return
        shared = _Shared(work)
        for _ in range(n_threads - 1):
            self._queue.put(shared)
        try:
            work()
        finally:
            error = shared.finish()
        if error is not None:
            raise error

    def close(self) -> None:
        """End the threads."""
        for _ in self._helpers:
            self._queue.put(None)
        for helper in self._helpers:
            helper.join()

    def _help(self) -> None:
        while (shared := self._queue.get()) is not None:
            shared.help()
            del shared  # else an idle thread would keep the last search's arrays


class _Shared:
    """Work that helpers may join until its owner has finished."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work: Callable[[], None] | None = work
        self._lock = threading.Lock()
        self._n_helping = 0
        self._left: threading.Event | None = None
        self._error: BaseException | None = None

    def help(self) -> None:
        """Do a part of the work, if there is any left."""
        with self._lock:
            work = self._work
            if work is None:
                return
            self._n_helping += 1
        try:
            work()
        except BaseException as error:
            self._error = error
        with self._lock:
            self._n_helping -= 1
            if self._left is not None and self._n_helping == 0:
                self._left.set()

    def finish(self) -> BaseException | None:
        """Let nobody begin any more, wait for those who have begun, and return the error of one of them."""
        with self._lock:
            # the queue may hold this object for long yet, but not the search's arrays
            self._work = None
            if self._n_helping:
                self._left = threading.Event()
        if self._left is not None:
            self._left.wait()
        return self._error


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

    def clear(self) -> None:
        """Forget all arrays (their sizes belong to a snapshot)."""
        with self._lock:
            self._free.clear()
            self._free_bytes = 0
