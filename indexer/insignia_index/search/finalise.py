"""From slot statistics and hits to the tables of an answer."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from insignia_index.cancel import CancelToken
from insignia_index.kernels.summarise import (
    CELLS,
    FRACTION,
    HITS,
    LARGEST,
    LEAST_MEASURED,
    MEAN,
    SAMPLE_MEAN,
    SAMPLE_MEDIAN,
    SAMPLES,
    SD,
    summarise,
)
from insignia_index.search.grouping import Grouping
from insignia_index.snapshot import Snapshot
from insignia_model.table import Column, Table

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class UnitTotals(NamedTuple):
    """Units that have cells (indices of the grouping's), their cells, hits, sums of scores and of squares."""

    unit: Ints
    n_cells: Ints
    n_hits: Ints
    score_sums: Floats
    square_sums: Floats


class Units:
    """Totals of every unit, and what they give for samples and groups.

    ``statistics`` float64 (n_slots, 3) as `score_all` returns them; ``slot_hits`` int64 (n_slots,);
    ``measured`` int64 (n_studies,); units below ``min_cells`` are no replicate.
    """

    def __init__(
        self, grouping: Grouping, statistics: Floats, slot_hits: Ints, measured: Ints, min_cells: int
    ) -> None:
        self.grouping = grouping
        self._groups, self._group_counts, self._group_figures, *units = summarise(
            grouping.slot_unit, grouping.slot_cells, slot_hits, statistics,
            grouping.unit_group, grouping.unit_study, grouping.unit_is_named, measured, min_cells,
            grouping.n_groups,
        )  # fmt: skip
        self._units, self._counts, self._figures = units

    @property
    def groups(self) -> tuple[Ints, Ints, Floats]:
        """Groups that have cells, best first, int64 (n,), their counts (4, n) and their figures (6, n)."""
        return self._groups, self._group_counts, self._group_figures

    def group_table(self, quantiles: Floats | None) -> Table:
        """One row per group; ``quantiles`` float64 (n_groups, 2): median and p90, if asked for."""
        extra = None if quantiles is None else quantiles[self._groups]
        figures = group_columns(self._group_counts, self._group_figures, extra)
        return Table(self._keys(self._groups) | figures)

    def sample_table(self) -> Table:
        """One row per unit with a cell that passes, in the order of the groups, then of study and sample."""
        columns = self._keys(self.grouping.unit_group[self._units])
        # a group_by field of the same name says the same
        for name, column in self.grouping.unit_names.items():
            columns.setdefault(name, column.take(self._units))
        columns["n_cells"] = Column("integer", self._counts[CELLS])
        columns["n_hits"] = Column("integer", self._counts[HITS])
        columns["hit_fraction"] = Column("number", self._figures[FRACTION])
        columns["mean"] = Column("number", self._figures[MEAN])
        return Table(columns)

    def totals(self) -> UnitTotals:
        """Totals of the units that have cells."""
        n_cells, means = self._counts[CELLS], self._figures[MEAN]
        squares = np.nan_to_num(self._figures[SD]) ** 2 * (n_cells - 1) + means**2 * n_cells
        return UnitTotals(self._units, n_cells, self._counts[HITS], means * n_cells, squares)

    def _keys(self, groups: Ints) -> dict[str, Column]:
        return {field: column.take(groups) for field, column in self.grouping.group_keys.items()}


def group_columns(counts: Ints, figures: Floats, quantiles: Floats | None = None) -> dict[str, Column]:
    """Columns of groups from counts int64 (4, n), figures (6, n) and, if asked for, quantiles (n, 2)."""
    columns = {
        "n_cells": Column("integer", counts[CELLS]),
        "n_hits": Column("integer", counts[HITS]),
        "hit_fraction": Column("number", figures[FRACTION]),
        "mean": Column("number", figures[MEAN]),
        "sd": Column("number", figures[SD]),
        "max": Column("number", figures[LARGEST]),
    }
    if quantiles is not None:
        columns["median"] = Column("number", quantiles[:, 0])
        columns["p90"] = Column("number", quantiles[:, 1])
    return columns | {
        "n_samples": Column("integer", counts[SAMPLES]),
        "sample_hit_fraction_mean": Column("number", figures[SAMPLE_MEAN]),
        "sample_hit_fraction_median": Column("number", figures[SAMPLE_MEDIAN]),
        "n_genes_measured": Column("integer", counts[LEAST_MEASURED]),
    }


def group_quantiles(
    snapshot: Snapshot, grouping: Grouping, scores: npt.NDArray[Any], cancel: CancelToken
) -> Floats:
    """Median and 90th percentile of the scores of every group, float64 (n_groups, 2), as `numpy.quantile`."""
    group = np.repeat(grouping.unit_group[grouping.slot_unit], grouping.slot_cells)
    values = scores[grouping.rows(snapshot)].astype(np.float64)
    order = np.lexsort((values, group))
    cancel.check()
    values = values[order]
    counts = np.bincount(group, minlength=grouping.n_groups)
    present = np.flatnonzero(counts)
    last = np.cumsum(counts)[present] - 1
    first = last + 1 - counts[present]
    found = np.full((grouping.n_groups, 2), np.nan)
    for i, quantile in enumerate((0.5, 0.9)):
        position = quantile * (last - first)
        share = position % 1
        at = first + position.astype(np.int64)
        lower, upper = values[at], values[np.minimum(at + 1, last)]
        step = upper - lower
        # from the nearer end, as in `kernels.collect.choose`
        found[present, i] = np.where(share < 0.5, lower + step * share, upper - step * (1 - share))
    return found
