"""From slot statistics and selected rows to the tables of an answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.kernels.collect import count_slots
from insignia_index.kernels.summarise import group_totals, replicate_summary, unit_totals
from insignia_index.search.grouping import Grouping
from insignia_index.snapshot import Snapshot
from insignia_model.table import Column, Table

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def count_hits(snapshot: Snapshot, grouping: Grouping, hit_rows: Ints) -> Ints:
    """Hits of every slot, int64 (n_slots,)."""
    counts = np.zeros(len(grouping.slot_unit), np.int64)
    count_slots(hit_rows, snapshot.block_starts, grouping.codes, grouping.slot_starts, counts)
    return counts


class Units:
    """Totals of every unit, and what they give for samples and groups.

    ``slot_hits`` int64 (n_slots,), ``statistics`` float64 (n_slots, 3) as `score_all` returns them;
    ``measured`` int64 (n_studies,).
    """

    def __init__(self, grouping: Grouping, statistics: Floats, slot_hits: Ints, measured: Ints) -> None:
        self.grouping = grouping
        totals = unit_totals(
            grouping.slot_unit, grouping.slot_cells, slot_hits, statistics, len(grouping.unit_group)
        )
        self.n_cells, self.n_hits, self.sum = totals[:3]
        groups = group_totals(grouping.unit_group, grouping.unit_study, *totals, measured, grouping.n_groups)
        self.group_cells, self.group_hits, self.group_sum, self.group_squares = groups[:4]
        self.group_max, self.n_genes_measured = groups[4:]
        #: groups with a cell that passes, highest hit fraction first, then most cells
        present = np.flatnonzero(self.group_cells)
        fraction = self.group_hits[present] / self.group_cells[present]
        self.order = present[np.lexsort((-self.group_cells[present], -fraction))]

    def group_table(self, min_cells: int, quantiles: Floats | None) -> Table:
        """One row per group; ``quantiles`` float64 (n_groups, 2): median and p90, if asked for."""
        grouping, order = self.grouping, self.order
        n_samples, sample_mean, sample_median = replicate_summary(
            grouping.unit_group,
            grouping.unit_is_named,
            self.n_cells,
            self.n_hits,
            min_cells,
            grouping.n_groups,
        )
        n_cells, n_hits = self.group_cells[order], self.group_hits[order]
        mean = self.group_sum[order] / n_cells
        squares = np.maximum(self.group_squares[order] - n_cells * mean * mean, 0)
        # of one cell there is no standard deviation
        sd = np.sqrt(squares / np.where(n_cells > 1, n_cells - 1, np.nan))
        columns = self._keys(order) | {
            "n_cells": Column.integers(n_cells),
            "n_hits": Column.integers(n_hits),
            "hit_fraction": Column.numbers(n_hits / n_cells),
            "mean": Column.numbers(mean),
            "sd": Column.numbers(sd),
            "max": Column.numbers(self.group_max[order]),
        }
        if quantiles is not None:
            columns["median"] = Column.numbers(quantiles[order, 0])
            columns["p90"] = Column.numbers(quantiles[order, 1])
        columns["n_samples"] = Column.integers(n_samples[order])
        columns["sample_hit_fraction_mean"] = Column.numbers(sample_mean[order])
        columns["sample_hit_fraction_median"] = Column.numbers(sample_median[order])
        columns["n_genes_measured"] = Column.integers(self.n_genes_measured[order])
        return Table(columns)

    def sample_table(self) -> Table:
        """One row per unit with a cell that passes, in the order of the groups, then of study and sample."""
        grouping = self.grouping
        place = np.empty(grouping.n_groups, np.int64)
        place[self.order] = np.arange(len(self.order))
        units = np.flatnonzero(self.n_cells)
        units = units[np.argsort(place[grouping.unit_group[units]], kind="stable")]
        n_cells, n_hits = self.n_cells[units], self.n_hits[units]
        columns = self._keys(grouping.unit_group[units])
        # a group_by field of the same name says the same
        columns |= {
            name: column.take(units) for name, column in grouping.unit_names.items() if name not in columns
        }
        columns["n_cells"] = Column.integers(n_cells)
        columns["n_hits"] = Column.integers(n_hits)
        columns["hit_fraction"] = Column.numbers(n_hits / n_cells)
        columns["mean"] = Column.numbers(self.sum[units] / n_cells)
        return Table(columns)

    def _keys(self, groups: Ints) -> dict[str, Column]:
        return {field: column.take(groups) for field, column in self.grouping.group_keys.items()}


def group_quantiles(snapshot: Snapshot, grouping: Grouping, scores: npt.NDArray[Any]) -> Floats:
    """Median and 90th percentile of the scores of every group, float64 (n_groups, 2)."""
    rows = np.flatnonzero(grouping.codes >= 0)
    block = np.searchsorted(snapshot.block_starts, rows, side="right") - 1
    slot = grouping.slot_starts[block] + grouping.codes[rows]
    group = grouping.unit_group[grouping.slot_unit[slot]]
    order = np.argsort(group, kind="stable")
    counts = np.bincount(group, minlength=grouping.n_groups)
    found = np.full((grouping.n_groups, 2), np.nan)
    parts = np.split(scores[rows[order]].astype(np.float64), np.cumsum(counts)[:-1])
    for i, part in enumerate(parts):
        if len(part):
            found[i] = np.quantile(part, (0.5, 0.9))
    return found
