"""The cut-off, the hits and the best cells, exactly, without sorting all scores.

A sample of the scores gives a bound that leaves a few cells more than are needed. One pass collects the
cells at or above it; order statistics are then taken among these. If the sample misled (it is checked, not
trusted), the pass is repeated without a bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from insignia_index.kernels.collect import choose, collect, sampled_bound, select_cells
from insignia_index.kernels.compare import LANES
from insignia_index.kernels.score import MAXIMUM, SUM, SUM_OF_SQUARES
from insignia_index.kernels.summarise import LEAST_ROUNDING, ROUNDING
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
    ask = _Ask.of(rule, statistics, n_cells, k)
    room = _Room(work, scores)
    find = _select_at_once if len(work.tasks) == 1 else _select_in_tasks
    found, n_hits, top_rows, top_scores = find(work, scores, ask, room, slot_hits)
    room.give_back()
    return Selection(found, slot_hits, n_hits, top_rows, top_scores)


@dataclass(frozen=True, slots=True)
class _Ask:
    """What to select of ``n_cells`` that pass: the ``k`` best, and the cut-off in one of three ways.

    It is given (NaN: not), lies at a ``position`` among the scores, from the lowest (-1: not), or is the
    score of the ``n_best``-th best cell (-1: not). ``needed``: so many of the best cells have to be seen.
    """

    n_cells: int
    k: int
    cutoff: float
    position: float
    n_best: int
    needed: int

    @classmethod
    def of(cls, rule: HitRule, statistics: npt.NDArray[np.float64], n_cells: int, k: int) -> _Ask:
        cutoff, position, n_best = known_cutoff(rule, statistics, n_cells), -1.0, -1
        k = needed = min(k, n_cells)
        if rule.kind == "top":
            n_best = min(int(rule.value), n_cells)
            needed = max(k, n_best)
        elif cutoff is None:
            position = quantile_of(rule) * (n_cells - 1)
            needed = max(k, n_cells - math.floor(position))
        return cls(n_cells, k, math.nan if cutoff is None else cutoff, position, n_best, needed)

    @property
    def stride(self) -> int:
        """Distance of the cells of a sample, so that about _SAMPLE that pass are met; 0 for no sample."""
        has_sample = 0 < self.needed <= self.n_cells // 2 and self.n_cells >= 4 * _SAMPLE
        return self.n_cells // _SAMPLE if has_sample else 0


def quantile_of(rule: HitRule) -> float:
    """Share of the cells at or below the cut-off of a percentile or quantile rule."""
    return rule.value / 100 if rule.kind == "percentile" else rule.value


def known_cutoff(rule: HitRule, statistics: npt.NDArray[np.float64], n_cells: int) -> float | None:
    """Cut-off of the rules that need no order statistic."""
    if rule.kind == "value":
        return rule.value
    if rule.kind == "zscore":
        mean = statistics[:, SUM].sum() / n_cells
        squares = statistics[:, SUM_OF_SQUARES].sum() / n_cells
        if squares - mean * mean <= max(n_cells * ROUNDING, LEAST_ROUNDING) * squares:
            # all score the same: none is above
            return float(statistics[:, MAXIMUM].max())
        return float(mean + rule.value * math.sqrt(squares - mean * mean))
    return None


class _Room:
    """Borrowed arrays for candidates: rows int64 and values, for every cell, and what a task overwrites."""

    def __init__(self, work: Work, scores: npt.NDArray[Any]) -> None:
        self._buffers = work.buffers
        n = len(scores) + LANES * (2 + len(scores) // TASK_CELLS)
        self.rows = work.buffers.take("rows", n, np.int64)
        self.values = work.buffers.take("values", n, scores.dtype)

    def sample(self, stride: int) -> npt.NDArray[Any]:
        """Array for every ``stride``-th of all scores, empty for 0."""
        n = (len(self.values) // stride + 1) if stride else 0
        return np.empty(n, self.values.dtype)

    def give_back(self) -> None:
        """Hand the arrays back."""
        self._buffers.give("rows", self.rows)
        self._buffers.give("values", self.values)


_Found: TypeAlias = tuple[float, int, Rows, npt.NDArray[Any]]


def _select_at_once(work: Work, scores: npt.NDArray[Any], ask: _Ask, room: _Room, slot_hits: Rows) -> _Found:
    """Cut-off, number of hits, rows and scores of the best; adds to ``slot_hits`` (n_slots,)."""
    grouping, starts = work.grouping, work.snapshot.block_starts
    work.cancel.check()
    found: _Found = select_cells(
        scores, grouping.blocks, starts, ask.n_cells, ask.needed, ask.stride, ask.k,
        ask.cutoff, ask.position, ask.n_best, grouping.codes, grouping.slot_starts, slot_hits,
        room.rows, room.values, room.sample(ask.stride),
    )  # fmt: skip
    return found


def _select_in_tasks(work: Work, scores: npt.NDArray[Any], ask: _Ask, room: _Room, slot_hits: Rows) -> _Found:
    """As `_select_at_once`; the candidates of many cells are collected on all threads."""
    grouping, starts = work.grouping, work.snapshot.block_starts
    bound = math.inf if ask.needed == 0 else -math.inf
    if ask.stride:
        share, sample = ask.needed / ask.n_cells, room.sample(ask.stride)
        bound = float(sampled_bound(scores, grouping.blocks, starts, ask.stride, share, sample))
    if ask.cutoff < bound:
        bound = ask.cutoff
    rows, values = _collect(work, scores, room, bound)
    if len(rows) < ask.needed:
        rows, values = _collect(work, scores, room, -math.inf)
    rank, share = -1, 0.0
    if ask.position >= 0:
        rank = math.floor(ask.position) - (ask.n_cells - len(rows))
        share = ask.position - math.floor(ask.position)
    found: _Found = choose(
        rows, values, ask.k, ask.cutoff, rank, share, ask.n_best,
        starts, grouping.codes, grouping.slot_starts, slot_hits,
    )  # fmt: skip
    return found


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
