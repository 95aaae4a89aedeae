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

from insignia_index.format.layout import BLOCK_CELLS
from insignia_index.kernels.collect import collect_double, collect_single, sample_scores
from insignia_index.kernels.order import neighbours, nth_smallest
from insignia_index.kernels.score import SUM, SUM_OF_SQUARES
from insignia_index.search.scoring import Work
from insignia_index.search.tasks import TASK_CELLS
from insignia_model.hits import HitRule

_SAMPLE = 4096
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Selection:
    """Cut-off (None if no cell passes), rows of the hits ascending, rows and scores of the best."""

    cutoff: float | None
    hit_rows: Rows
    top_rows: Rows
    top_scores: npt.NDArray[Any]


def select(
    work: Work, scores: npt.NDArray[Any], statistics: npt.NDArray[np.float64], rule: HitRule, k: int
) -> Selection:
    """Apply the hit rule to all cells that pass, and find the k best of them."""
    n_cells = work.grouping.n_cells
    if n_cells == 0:
        return Selection(None, np.empty(0, np.int64), np.empty(0, np.int64), scores[:0])
    k = min(k, n_cells)
    cutoff = _known_cutoff(rule, statistics, n_cells)
    needed = max(k, _cells_needed(rule, n_cells))
    rows, values = _candidates(work, scores, needed, cutoff)
    top_rows, top_scores = best(rows, values, k)
    if rule.kind == "top":
        hit_rows, hit_scores = best(rows, values, min(int(rule.value), n_cells))
        return Selection(float(hit_scores[-1]), np.sort(hit_rows), top_rows, top_scores)
    if cutoff is None:
        cutoff = _interpolated(values, n_cells, _quantile(rule))
    # np.float64, not float: a Python float would be rounded to float32 before the comparison
    return Selection(cutoff, rows[values > np.float64(cutoff)], top_rows, top_scores)


def best(rows: Rows, values: npt.NDArray[Any], k: int) -> tuple[Rows, npt.NDArray[Any]]:
    """The k largest of ``values`` (n,) and their ``rows`` (n, ascending), best first. Ties: lower row."""
    if k == 0:
        return rows[:0], values[:0]
    if k < len(values):
        bound = values.dtype.type(nth_smallest(values, len(values) - k))
        kept = values >= bound
        rows, values = rows[kept], values[kept]
    order = np.lexsort((rows, -values))[:k]
    return rows[order], values[order]


def _quantile(rule: HitRule) -> float:
    return rule.value / 100 if rule.kind == "percentile" else rule.value


def _known_cutoff(rule: HitRule, statistics: npt.NDArray[np.float64], n_cells: int) -> float | None:
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
        return n_cells - math.floor(_quantile(rule) * (n_cells - 1))
    return 0


def _interpolated(values: npt.NDArray[Any], n_cells: int, quantile: float) -> float:
    """Quantile of all cells, of which ``values`` holds the best: linear, as `numpy.quantile`, in float64."""
    position = quantile * (n_cells - 1)
    low = math.floor(position)
    lower, upper = neighbours(values, low - (n_cells - len(values)))
    # as numpy does it: from the nearer end, so that both ends are met exactly
    share = position - low
    step = upper - lower
    return float(lower + step * share if share < 0.5 else upper - step * (1 - share))


def _candidates(
    work: Work, scores: npt.NDArray[Any], needed: int, cutoff: float | None
) -> tuple[Rows, npt.NDArray[Any]]:
    """Rows ascending and scores of at least the ``needed`` best cells and of all above ``cutoff``."""
    bound = _sampled_bound(work, scores, needed)
    if cutoff is not None:
        bound = min(bound, cutoff)
    if bound > -math.inf:
        rows, values = _collect(work, scores, bound)
        if len(rows) >= needed:
            return rows, values
    return _collect(work, scores, -math.inf)


def _sampled_bound(work: Work, scores: npt.NDArray[Any], needed: int) -> float:
    n_rows, n_cells = len(scores), work.grouping.n_cells
    if needed == 0:
        return math.inf
    if n_cells < 4 * _SAMPLE or needed > n_cells // 2:
        return -math.inf
    stride = n_cells // _SAMPLE  # so that about _SAMPLE of the cells that pass are met
    sample = np.empty(n_rows // stride + 1, scores.dtype)
    sample = sample[: sample_scores(scores, work.grouping.codes, stride // 2, n_rows, stride, sample)]
    share = needed / n_cells
    expected = share * len(sample)
    rank = math.ceil(expected + 4 * math.sqrt(expected * (1 - share)) + 8)
    if rank >= len(sample):
        return -math.inf
    return float(nth_smallest(sample, len(sample) - rank))


def _collect(work: Work, scores: npt.NDArray[Any], bound: float) -> tuple[Rows, npt.NDArray[Any]]:
    tasks = work.tasks
    found: list[tuple[Rows, npt.NDArray[Any]]] = [None] * len(tasks)  # type: ignore[list-item]
    starts = work.snapshot.block_starts
    typed_bound = scores.dtype.type(bound)
    collect_rows = collect_single if scores.dtype == np.float32 else collect_double

    def collect(i: int) -> None:
        rows = work.buffers.take("rows", TASK_CELLS + BLOCK_CELLS + 1, np.int64)
        values = work.buffers.take("values", TASK_CELLS + BLOCK_CELLS + 1, scores.dtype)
        first, stop = starts[tasks[i][0]], starts[tasks[i][-1] + 1]
        n = collect_rows(scores, work.grouping.codes, first, stop, typed_bound, rows, values)
        found[i] = rows[:n].copy(), values[:n].copy()
        work.buffers.give("rows", rows)
        work.buffers.give("values", values)

    work.run(collect, range(len(tasks)))
    return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])
