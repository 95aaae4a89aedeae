"""The cut-off, the hits and the best cells, exactly, without sorting all scores.

A sample of the scores gives a bound that leaves a few cells more than are needed. One pass collects the
cells at or above it; order statistics are then taken among these. If the sample misled (it is checked, not
trusted), the pass is repeated without a bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.kernels.collect import choose, collect, sampled_bound
from insignia_index.kernels.compare import LANES
from insignia_index.kernels.score import SUM, SUM_OF_SQUARES
from insignia_index.search.scoring import Work
from insignia_index.search.tasks import TASK_CELLS
from insignia_model.hits import HitRule

_SAMPLE = 4096
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Selection:
    """Cut-off (None if no cell passes), hits of every slot int64 (n_slots,), rows and scores of the best."""

    cutoff: float | None
    slot_hits: npt.NDArray[np.int64]
    n_hits: int
    top_rows: Rows
    top_scores: npt.NDArray[Any]


def select(
    work: Work, scores: npt.NDArray[Any], statistics: npt.NDArray[np.float64], rule: HitRule, k: int
) -> Selection:
    """Apply the hit rule to all cells that pass, and find the k best of them."""
    grouping, n_cells = work.grouping, work.grouping.n_cells
    slot_hits = np.zeros(len(grouping.slot_unit), np.int64)
    if n_cells == 0:
        return Selection(None, slot_hits, 0, np.empty(0, np.int64), scores[:0])
    k = min(k, n_cells)
    cutoff = known_cutoff(rule, statistics, n_cells)
    room = _Room(work, scores)
    rows, values = _candidates(work, scores, room, max(k, _cells_needed(rule, n_cells)), cutoff)
    rank, share, n_best = -1, 0.0, -1
    if rule.kind == "top":
        n_best = min(int(rule.value), n_cells)
    elif cutoff is None:
        position = quantile_of(rule) * (n_cells - 1)
        rank = math.floor(position) - (n_cells - len(values))
        share = position - math.floor(position)
    found, n_hits, top_rows, top_scores = choose(
        rows, values, k, 0.0 if cutoff is None else cutoff, rank, share, n_best,
        work.snapshot.block_starts, grouping.codes, grouping.slot_starts, slot_hits,
    )  # fmt: skip
    room.give_back()
    return Selection(found, slot_hits, n_hits, top_rows, top_scores)


def quantile_of(rule: HitRule) -> float:
    """Share of the cells at or below the cut-off of a percentile or quantile rule."""
    return rule.value / 100 if rule.kind == "percentile" else rule.value


def known_cutoff(rule: HitRule, statistics: npt.NDArray[np.float64], n_cells: int) -> float | None:
    """Cut-off of the rules that need no order statistic."""
    if rule.kind == "value":
        return rule.value
    if rule.kind == "zscore":
        mean = statistics[:, SUM].sum() / n_cells
        variance = max(0.0, statistics[:, SUM_OF_SQUARES].sum() / n_cells - mean * mean)
        return float(mean + rule.value * math.sqrt(variance))
    return None


def _cells_needed(rule: HitRule, n_cells: int) -> int:
    """How many of the best cells the rule has to see."""
    if rule.kind == "top":
        return min(int(rule.value), n_cells)
    if rule.kind in ("percentile", "quantile"):
        return n_cells - math.floor(quantile_of(rule) * (n_cells - 1))
    return 0


class _Room:
    """Borrowed arrays for candidates: rows int64 and values, for every cell, and what a task overwrites."""

    def __init__(self, work: Work, scores: npt.NDArray[Any]) -> None:
        self._buffers = work.buffers
        n = len(scores) + LANES * (2 + len(scores) // TASK_CELLS)
        self.rows = work.buffers.take("rows", n, np.int64)
        self.values = work.buffers.take("values", n, scores.dtype)

    def give_back(self) -> None:
        """Hand the arrays back."""
        self._buffers.give("rows", self.rows)
        self._buffers.give("values", self.values)


def _candidates(
    work: Work, scores: npt.NDArray[Any], room: _Room, needed: int, cutoff: float | None
) -> tuple[Rows, npt.NDArray[Any]]:
    """Rows ascending and scores of at least the ``needed`` best cells and of all above ``cutoff``."""
    bound = _sampled_bound(work, scores, needed)
    if cutoff is not None:
        bound = min(bound, cutoff)
    if bound > -math.inf:
        rows, values = _collect(work, scores, room, bound)
        if len(rows) >= needed:
            return rows, values
    return _collect(work, scores, room, -math.inf)


def _sampled_bound(work: Work, scores: npt.NDArray[Any], needed: int) -> float:
    grouping, n_cells = work.grouping, work.grouping.n_cells
    if needed == 0:
        return math.inf
    if n_cells < 4 * _SAMPLE or needed > n_cells // 2:
        return -math.inf
    stride = n_cells // _SAMPLE  # so that about _SAMPLE of the cells that pass are met
    sample = np.empty(len(scores) // stride + 1, scores.dtype)
    starts = work.snapshot.block_starts
    return float(sampled_bound(scores, grouping.blocks, starts, stride, needed / n_cells, sample))


def _collect(
    work: Work, scores: npt.NDArray[Any], room: _Room, bound: float
) -> tuple[Rows, npt.NDArray[Any]]:
    starts = work.snapshot.block_starts
    typed_bound = scores.dtype.type(bound)
    tasks = work.tasks
    found: list[slice] = [slice(0)] * len(tasks)

    def run(i: int) -> None:
        # each task at its own place: no copies, unless there are several to put together
        first = int(starts[tasks[i][0]]) + LANES * i
        rows, values = room.rows[first:], room.values[first:]
        n = collect(scores, tasks[i], starts, typed_bound, rows, values)
        found[i] = slice(first, first + n)

    work.run(run, len(tasks))
    if len(found) == 1:
        return room.rows[found[0]], room.values[found[0]]
    return np.concatenate([room.rows[f] for f in found]), np.concatenate([room.values[f] for f in found])
