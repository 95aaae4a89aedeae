"""Running a search's tasks on several threads, and the buffers that they reuse."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.cancel import CancelToken

#: Cells of a task at most: with 200 genes about 10 ms, the latency of a cancellation.
TASK_CELLS = 262_144
#: Tasks a thread at least, so that one slow task does not keep the others waiting.
TASKS_PER_THREAD = 4


class Threads:
    """A pool for kernels that release the GIL; the calling thread always works too."""

    def __init__(self, n_threads: int | None = None) -> None:
        self.n_threads = n_threads or len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(max(1, self.n_threads - 1), thread_name_prefix="insignia-search")

    def run(
        self, work: Callable[[Any], None], tasks: Sequence[Any], cancel: CancelToken, n_threads: int
    ) -> None:
        """Call ``work`` on every task, in no particular order; the first error is raised when all stopped."""
        pending = iter(tasks)
        lock = threading.Lock()

        def drain() -> None:
            while True:
                with lock:
                    task = next(pending, None)
                if task is None:
                    return
                cancel.check()
                work(task)

        helpers = [self._pool.submit(drain) for _ in range(min(n_threads, len(tasks)) - 1)]
        try:
            drain()
        finally:
            wait(helpers)
        for helper in helpers:
            helper.result()

    def close(self) -> None:
        """Stop the pool."""
        self._pool.shutdown()


def split(weights: npt.NDArray[np.int64], n_threads: int) -> list[tuple[int, int]]:
    """Runs [first, last) of items of about equal weight: enough for the threads, none above TASK_CELLS."""
    total = int(weights.sum())
    if total == 0:
        return []
    n_tasks = max(-(-total // TASK_CELLS), n_threads * TASKS_PER_THREAD if n_threads > 1 else 1)
    ends = np.cumsum(weights)
    edges = np.searchsorted(ends, np.linspace(0, total, n_tasks + 1)[1:-1]) + 1
    cuts = [0, *np.unique(np.clip(edges, 0, len(weights))).tolist(), len(weights)]
    return [(a, b) for a, b in pairwise(cuts) if a < b]


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
