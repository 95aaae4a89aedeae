"""Scatter: the scores of every cell that passes, block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.cancel import CancelToken
from insignia_index.format.layout import BLOCK_CELLS
from insignia_index.kernels.containers import BUFFER_CELLS
from insignia_index.kernels.expand import GENES
from insignia_index.kernels.score import MAXIMUM, score_blocks_half, score_blocks_single
from insignia_index.search.gene_cache import Postings
from insignia_index.search.grouping import Grouping
from insignia_index.search.plan import Query
from insignia_index.search.tasks import Buffers, Threads, split
from insignia_index.snapshot import Snapshot

#: An empty bitmap of any block, and a vector's width of values behind it.
_NO_BITS = np.zeros(BLOCK_CELLS // 16 + 64, np.uint16)
_NO_BITS_ADDRESS = np.uint64(_NO_BITS.ctypes.data)


@dataclass(frozen=True)
class Work:
    """What the steps of one search share."""

    snapshot: Snapshot
    grouping: Grouping
    threads: Threads
    buffers: Buffers
    cancel: CancelToken
    n_threads: int

    @property
    def tasks(self) -> list[npt.NDArray[np.int64]]:
        """The blocks to visit, in runs of about equal numbers of cells, some for every thread."""
        return self._runs(self.n_threads)

    @property
    def large_tasks(self) -> list[npt.NDArray[np.int64]]:
        """The same in as few runs as there may be: for work that is done before another thread has begun."""
        return self._runs(1)

    def _runs(self, n_threads: int) -> list[npt.NDArray[np.int64]]:
        blocks = self.grouping.blocks
        return [blocks[a:b] for a, b in split(self.snapshot.block_cells[blocks], n_threads)]

    def run(self, work: Any, tasks: Any) -> None:
        """Work off the tasks on this search's threads."""
        self.threads.run(work, tasks, self.cancel, self.n_threads)


def score_dtype(value_bits: int) -> type[np.floating[Any]]:
    """float16 values are summed in float32, whose error is far below theirs; float32 values in float64."""
    return np.float32 if value_bits == 16 else np.float64


def score_all(
    work: Work, query: Query, postings: Postings, value_bits: int, out: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """Write the score of every cell of the grouping's blocks to its row of ``out`` (n_cells,).

    Returns the statistics of the slots, float64 (n_slots, 3): sum, sum of squares, maximum.
    """
    snapshot, grouping = work.snapshot, work.grouping
    statistics = np.zeros((len(grouping.slot_unit), 3), np.float64)
    statistics[:, MAXIMUM] = -np.inf  # of the slots of blocks that nobody visits
    dtype = score_dtype(value_bits)
    weights = query.weights.astype(dtype)
    score_blocks = score_blocks_half if value_bits == 16 else score_blocks_single
    room = len(weights) + GENES

    def score(blocks: npt.NDArray[np.int64]) -> None:
        accumulator = work.buffers.take("accumulator", BUFFER_CELLS, dtype)
        score_blocks(
            snapshot.table, blocks, postings.entries, postings.payloads, weights, dtype(query.divisor),
            accumulator, np.empty((2, 3, room, 2), np.int64), np.zeros((2, 3, room), dtype), _NO_BITS_ADDRESS,
            out, grouping.order, grouping.order_starts, grouping.slot_starts, statistics,
        )  # fmt: skip
        work.buffers.give("accumulator", accumulator)

    work.run(score, work.tasks)
    return statistics
