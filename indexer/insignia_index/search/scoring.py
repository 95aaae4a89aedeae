"""Scatter: the scores of every cell that passes, block by block."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.cancel import CancelToken
from insignia_index.format.layout import BLOCK_CELLS
from insignia_index.kernels.bitmaps import BUFFER_CELLS
from insignia_index.kernels.expand import GENES
from insignia_index.kernels.score import MAXIMUM, score_blocks_half, score_blocks_single
from insignia_index.search.gene_cache import Postings
from insignia_index.search.grouping import Grouping
from insignia_index.search.plan import Query
from insignia_index.search.tasks import TASK_CELLS, Buffers, Threads, split
from insignia_index.snapshot import Snapshot

#: Cells times genes that make one more thread worth its waking: some 0.4 ms of scoring. With 20 genes of
#: 200,000 cells two threads took a tenth longer than one.
WORTH_A_THREAD = 6_000_000
#: Cells that one of several threads takes at a time, unless a block has more.
TURN_CELLS = 8_192
#: How often the caller looks whether helpers have scored their last blocks: some 50 microseconds, about what
#: it takes to be woken by one.
POLLS = 50_000
#: Genes up to which TASK_CELLS cells are scored between two checks for a cancellation.
_GENES_OF_A_TASK = 1024
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
        """The blocks to visit in runs of about TASK_CELLS cells: work that is short, so that few share it."""
        blocks = self.grouping.blocks
        if self.snapshot.n_cells <= TASK_CELLS and len(blocks):
            return [blocks]
        return [blocks[a:b] for a, b in split(self.snapshot.block_cells[blocks], TASK_CELLS)]

    def run(self, work: Callable[[int], None], n_tasks: int) -> None:
        """Call ``work`` with every number below ``n_tasks``, on this search's threads."""
        if n_tasks == 1:
            self.cancel.check()
            work(0)
            return
        waiting = deque(range(n_tasks))

        def take() -> None:
            while waiting:
                try:
                    task = waiting.popleft()
                except IndexError:  # another thread was faster
                    return
                self.cancel.check()
                work(task)

        self.threads.share(take, min(self.n_threads, n_tasks))


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
    if len(grouping.blocks) < len(snapshot.table):
        statistics[:, MAXIMUM] = -np.inf  # of the slots of blocks that nobody visits
    dtype = score_dtype(value_bits)
    weights = query.weights.astype(dtype)
    score_blocks = score_blocks_half if value_bits == 16 else score_blocks_single
    room = len(weights) + GENES
    n_threads, run = _division(work, len(weights))
    # a whole profile has more genes than a signature: fewer cells take as long
    enough = max(1, TASK_CELLS * _GENES_OF_A_TASK // max(_GENES_OF_A_TASK, len(weights)))
    progress, caller = np.zeros(2, np.int64), threading.get_ident()

    def score() -> None:
        polls = POLLS if n_threads > 1 and threading.get_ident() == caller else 0
        accumulator = work.buffers.take("accumulator", BUFFER_CELLS, dtype)
        found, found_weights = np.empty((2, 3, room, 2), np.int64), np.zeros((2, 3, room), dtype)
        more = True
        while more:
            work.cancel.check()
            more = score_blocks(
                snapshot.table, grouping.blocks, progress, run, enough, polls,
                postings.entries, postings.payloads, weights, dtype(query.divisor),
                accumulator, found, found_weights, _NO_BITS_ADDRESS,
                out, grouping.order, grouping.order_starts, grouping.slot_starts, statistics,
            )  # fmt: skip
        work.buffers.give("accumulator", accumulator)

    work.threads.share(score, n_threads, lambda: progress[1] == len(grouping.blocks))
    return statistics


def _division(work: Work, n_genes: int) -> tuple[int, int]:
    """Threads that the scoring is worth, and blocks (neighbours in memory) that each claims at a time."""
    blocks = work.grouping.blocks
    is_whole = len(blocks) == len(work.snapshot.table)
    n_cells = work.snapshot.n_cells if is_whole else int(work.snapshot.block_cells[blocks].sum())
    n_threads = min(work.n_threads, len(blocks), 1 + n_genes * n_cells // WORTH_A_THREAD)
    turn_cells = TASK_CELLS
    if n_threads > 1:  # short turns, so that none waits long for another at the end
        turn_cells = min(TURN_CELLS, n_cells // (8 * n_threads))
    return n_threads, max(1, turn_cells * len(blocks) // max(1, n_cells))
