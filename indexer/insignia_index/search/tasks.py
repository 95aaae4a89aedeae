"""Running a search's tasks on several threads, and the buffers that they reuse."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.cancel import CancelToken

#: Cells of a task at most: with 200 genes about 10 ms, the latency of a cancellation.
TASK_CELLS = 262_144
#: Tasks a thread at least, so that one slow task does not keep the others waiting long.
TASKS_PER_THREAD = 2


class Threads:
    """Worker threads for kernels that release the GIL; the calling thread always works too.

    A `concurrent.futures` pool does the same for some 0.1 ms more a phase, a tenth of a search.
    """

    def __init__(self, n_threads: int | None = None) -> None:
        self.n_threads = n_threads or len(os.sched_getaffinity(0))
        self._queue: SimpleQueue[_Phase | None] = SimpleQueue()
        self._helpers = [
            threading.Thread(target=self._help, name=f"insignia-search-{i}", daemon=True)
            for i in range(self.n_threads - 1)
        ]
        for helper in self._helpers:
            helper.start()

    def run(
        self, work: Callable[[Any], None], tasks: Sequence[Any], cancel: CancelToken, n_threads: int
    ) -> None:
        """Call ``work`` on every task, in no particular order; raises the first error when all stopped."""
        if min(n_threads, len(tasks)) <= 1:
            for task in tasks:
                cancel.check()
                work(task)
            return
        phase = _Phase(work, tasks, cancel)
        for _ in range(min(n_threads, len(tasks)) - 1):
            self._queue.put(phase)
        phase.work_off()
        phase.wait()

    def close(self) -> None:
        """End the threads."""
        for _ in self._helpers:
            self._queue.put(None)
        for helper in self._helpers:
            helper.join()

    def _help(self) -> None:
        while (phase := self._queue.get()) is not None:
            phase.work_off()
            del phase  # else an idle thread would keep the last search's arrays


class _Phase:
    """Tasks that several threads work off together."""

    def __init__(self, work: Callable[[Any], None], tasks: Sequence[Any], cancel: CancelToken) -> None:
        self._work = work
        self._waiting = deque(tasks)
        self._cancel = cancel
        self._lock = threading.Lock()
        self._n_unfinished = len(tasks)
        self._finished = threading.Event()
        self._error: BaseException | None = None

    def work_off(self) -> None:
        """Take tasks until none is left; after an error the rest is only counted."""
        while True:
            try:
                task = self._waiting.popleft()  # atomic
            except IndexError:
                return
            try:
                if self._error is None:
                    self._cancel.check()
                    self._work(task)
            except BaseException as error:
                self._error = self._error or error
            with self._lock:
                self._n_unfinished -= 1
                if self._n_unfinished == 0:
                    self._finished.set()

    def wait(self) -> None:
        """Wait until every task has ended, and raise the first error."""
        self._finished.wait()
        if self._error is not None:
            raise self._error


def split(weights: npt.NDArray[np.int64], n_threads: int) -> list[tuple[int, int]]:
    """Runs [first, last) of items of about equal weight: enough for the threads, none above TASK_CELLS."""
    ends = np.cumsum(weights)
    total = int(ends[-1]) if len(ends) else 0
    n_tasks = max(-(-total // TASK_CELLS), n_threads * TASKS_PER_THREAD if n_threads > 1 else 1)
    if total == 0 or n_tasks == 1:
        return [(0, len(weights))] if total else []
    edges = np.searchsorted(ends, np.arange(1, n_tasks) * (total / n_tasks)) + 1
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
