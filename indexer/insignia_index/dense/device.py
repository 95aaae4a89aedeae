"""Projected indexes on a GPU: one thread owns it, and what waits is asked together."""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from insignia_index.dense.index import faiss_module, probes
from insignia_index.dense.resident import Passing, Projected

log = logging.getLogger(__name__)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

#: FAISS on a GPU gives at most so many neighbours, and visits at most so many lists.
MOST = 2_048
#: Parts, each of a random share of the cells: so many times MOST neighbours can be had, of which half are
#: asked for, so that a part that holds more than its share of the best seldom loses one.
N_PARTS = 10
#: Questions in one call.
_BATCH = 64
#: Over-fetching for a filter beyond this many times is left to the processor, which looks at the cells that
#: pass.
_MOST_FETCHED = 4.0
_TEMPORARY_BYTES = 512 << 20
#: A code, its id, and slack for lists that grow by halves.
_BYTES_BESIDES = 1.5
_ID_BYTES = 8


def device_bytes(n_cells: int, n_dimensions: int) -> int:
    """Memory that so many projections take on a device, with room to work in."""
    return int(_BYTES_BESIDES * n_cells * (2 * n_dimensions + _ID_BYTES)) + _TEMPORARY_BYTES


class Backend(Protocol):
    """Where indexes are resident. Used by one thread."""

    name: str

    def free_bytes(self) -> int:
        """Memory that indexes may take."""

    def put(self, index: Any) -> Any:
        """Make an index of `Projected.parts` resident; RuntimeError if there is no memory for it."""

    def search(self, resident: Any, queries: Floats, k: int, n_probe: int) -> tuple[Floats, Ints]:
        """Scores float32 and ids int64 (n, k) of the best, -1: none; RuntimeError without memory."""

    def close(self) -> None:
        """Give up the room to work in; nothing will be asked any more."""


class GpuBackend:
    """A CUDA device by way of FAISS, whose one `StandardGpuResources` only one thread may use at a time."""

    def __init__(self, number: int) -> None:
        self._faiss, self._number = faiss_module(), number
        self.name = f"cuda:{number}"
        self._resources: Any = self._faiss.StandardGpuResources()
        self._resources.setTempMemory(_TEMPORARY_BYTES)  # else it takes up to 1.5 GiB
        self._options = self._faiss.GpuClonerOptions()
        self._options.useFloat16 = True  # flat indexes; scalar quantisers stay what they are
        self._options.indicesOptions = self._faiss.INDICES_64_BIT
        if hasattr(self._options, "use_cuvs"):  # which has no lists of 8-bit codes
            self._options.use_cuvs = False

    def free_bytes(self) -> int:
        """As the driver says; FAISS for Python does not."""
        from insignia_index.gpu.cuda import free_memory  # nothing of the kind unless there is a device

        return free_memory(self._number)

    def put(self, index: Any) -> Any:
        """Clone the index to the device."""
        return self._faiss.index_cpu_to_gpu(self._resources, self._number, index, self._options)

    def search(self, resident: Any, queries: Floats, k: int, n_probe: int) -> tuple[Floats, Ints]:
        """Ask FAISS; no selector, which a device may ignore."""
        if n_probe:
            resident.nprobe = n_probe
        found: tuple[Floats, Ints] = resident.search(queries, k)
        return found

    def close(self) -> None:
        """Indexes that are still there hold the resources, too."""
        self._resources = None


def gpu_backend(number: int) -> GpuBackend | None:
    """The backend of a device, or None if this FAISS has no GPU support or sees no such device."""
    faiss = faiss_module()
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() <= number:
        log.warning("FAISS stays on the processor: the installed faiss sees no device cuda:%d", number)
        return None
    try:
        return GpuBackend(number)
    except Exception as error:  # whatever a build of FAISS lacks: the processor can answer
        log.warning("FAISS stays on the processor: cuda:%d: %s", number, error)
        return None


@dataclass(frozen=True, slots=True)
class _Ask:
    query: Floats
    k: int  # of each part
    future: Future[tuple[Floats, Ints]] = field(default_factory=Future)


class DeviceIndex:
    """A `Projected` whose scans run on a device; it answers what the device cannot, with the same contract.

    Without a filter, or with one that most cells pass, the best cells of every part are asked for, and those
    that do not pass are dropped. The device's selector is never relied on. Safe for many threads.
    """

    def __init__(self, host: Projected, backend: Backend, memory: int | None = None) -> None:
        self.host, self.codec, self.n_cells = host, host.codec, host.n_cells
        self.name = backend.name
        self._backend = backend
        self._n_probe = min(MOST, probes(host.n_lists)) if host.n_lists else 0
        self._waiting: deque[_Ask] = deque()
        # the one thread that talks to the device
        self._owner = ThreadPoolExecutor(1, thread_name_prefix="insignia-faiss")
        self._resident: list[Any] = []
        self._works = self._owner.submit(self._fill, memory).result()

    @property
    def n_cells_on_device(self) -> int:
        """Cells that the device scans: all or none."""
        return self.n_cells if self._works else 0

    def close(self) -> None:
        """Answer what waits, and end the thread."""
        self._owner.shutdown()

    def candidates(
        self, projection: Floats, n: int, passing: Passing | None = None, n_passing: int | None = None
    ) -> tuple[Ints, Floats]:
        """As `Projected.candidates`."""
        n_passing = self.n_cells if n_passing is None else n_passing
        if not self._works or not n:
            return self.host.candidates(projection, n, passing, n_passing)
        fetched = n * self.n_cells / max(1, n_passing)
        # of each part: twice its share
        k = int(np.ceil(2 * fetched / N_PARTS))
        too_wide = k > MOST or fetched > _MOST_FETCHED * n or self.host.n_probe(n, n_passing) > self._n_probe
        if too_wide:
            return self.host.candidates(projection, n, passing, n_passing)
        ask = _Ask(projection / np.float32(self.codec.scale), k)
        self._waiting.append(ask)
        self._owner.submit(self._answer_waiting)
        try:
            scores, ids = ask.future.result()
        except RuntimeError:  # out of memory, most likely; the processor goes on alone
            return self.host.candidates(projection, n, passing, n_passing)
        rows, scores = self.host.passing(ids, scores, passing)
        if len(rows) > n:
            best = np.argpartition(-scores, n)[:n]
            rows, scores = rows[best], scores[best]
        if 4 * len(rows) < 3 * min(n, n_passing):  # the filter left too few of what was visited
            return self.host.candidates(projection, n, passing, n_passing)
        return rows, scores

    def _fill(self, memory: int | None) -> bool:
        """Make all parts resident; False, and nothing is, if they do not fit."""
        needed = device_bytes(self.n_cells, self.codec.n_dimensions)
        try:
            free = self._backend.free_bytes() if memory is None else memory
            if needed <= free:
                for part in self.host.parts(N_PARTS):
                    self._resident.append(self._backend.put(part))
                return True
            problem = f"it needs {needed:,} bytes, where {free:,} are free"
        except Exception as error:  # no memory, or whatever a build of FAISS lacks: the processor can answer
            problem = str(error)
        log.warning("FAISS stays on the processor: %s: %s", self.name, problem)
        self._leave()
        return False

    def _leave(self) -> None:
        """Give the device's memory to others."""
        self._resident.clear()
        self._backend.close()

    def _id(self, found: Ints, part: int) -> Ints:
        """Ids of `Projected.passing` of what a part found."""
        return found if self._n_probe else np.where(found >= 0, found * N_PARTS + part, -1)

    def _answer_waiting(self) -> None:
        asks: list[_Ask] = []
        while self._waiting and len(asks) < _BATCH:
            ask = self._waiting.popleft()
            if ask.future.set_running_or_notify_cancel():
                asks.append(ask)
        if not asks:  # an earlier call took them along
            return
        try:
            if not self._works:
                raise RuntimeError("an earlier question failed")
            queries, k = np.stack([ask.query for ask in asks]), max(ask.k for ask in asks)
            found = [self._backend.search(part, queries, k, self._n_probe) for part in self._resident]
        except BaseException as error:  # whoever waits must not wait for ever
            if isinstance(error, RuntimeError) and self._works:
                self._works = False
                log.warning("FAISS leaves %s: %s", self.name, error)
                self._leave()
            for ask in asks:
                ask.future.set_exception(error)
            return
        for i, ask in enumerate(asks):
            # the best k of k or more are those of a question that is asked alone
            scores = np.concatenate([part[0][i, : ask.k] for part in found])
            ids = np.concatenate([self._id(part[1][i, : ask.k], at) for at, part in enumerate(found)])
            ask.future.set_result((scores, ids))
