"""From slot statistics and selected rows to the tables of an answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.kernels.collect import count_slots
from insignia_index.kernels.score import MAXIMUM, SUM, SUM_OF_SQUARES
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
    """Totals of every unit, and what they give for samples and groups."""

    def __init__(self, grouping: Grouping, statistics: Floats, slot_hits: Ints, min_cells: int) -> None:
        self.grouping = grouping
        n_units, n_groups = len(grouping.unit_group), grouping.n_groups
        unit, group = grouping.slot_unit, grouping.unit_group
        self.n_cells = _total(unit, grouping.slot_cells, n_units)
        self.n_hits = _total(unit, slot_hits, n_units)
        self.sum = _total(unit, statistics[:, SUM], n_units)
        self.group_cells = _total(group, self.n_cells, n_groups)
        self.group_hits = _total(group, self.n_hits, n_groups)
        self.group_sum = _total(group, self.sum, n_groups)
        slot_group = group[unit]
        self.group_squares = _total(slot_group, statistics[:, SUM_OF_SQUARES], n_groups)
        self.group_max = np.full(n_groups, -np.inf)
        np.maximum.at(self.group_max, slot_group, statistics[:, MAXIMUM])
        named = grouping.unit_names["sample"].values >= 0
        #: units that count as replicates
        self.replicates = np.flatnonzero(named & (self.n_cells >= min_cells))
        #: groups with a cell that passes, highest hit fraction first
        present = np.flatnonzero(self.group_cells)
        fraction = self.group_hits[present] / self.group_cells[present]
        self.order = present[np.lexsort((-self.group_cells[present], -fraction))]

    def group_table(self, quantiles: Floats | None, measured: Ints) -> Table:
        """One row per group; ``quantiles`` float64 (n_groups, 2): median and p90, if asked for."""
        order = self.order
        n_cells, mean = self.group_cells[order], self.group_sum[order] / self.group_cells[order]
        squares = self.group_squares[order] - n_cells * mean * mean
        with np.errstate(invalid="ignore", divide="ignore"):
            sd = np.where(n_cells > 1, np.sqrt(np.maximum(squares, 0) / (n_cells - 1)), np.nan)
        n_samples, sample_mean, sample_median = self._sample_summary()
        columns = self._keys(order) | {
            "n_cells": Column.integers(n_cells),
            "n_hits": Column.integers(self.group_hits[order]),
            "hit_fraction": Column.numbers(self.group_hits[order] / n_cells),
            "mean": Column.numbers(mean),
            "sd": Column.numbers(sd),
            "max": Column.numbers(self.group_max[order]),
        }
        if quantiles is not None:
            columns["median"] = Column.numbers(quantiles[order, 0])
            columns["p90"] = Column.numbers(quantiles[order, 1])
        return Table(
            columns
            | {
                "n_samples": Column.integers(n_samples[order]),
                "sample_hit_fraction_mean": Column.numbers(sample_mean[order]),
                "sample_hit_fraction_median": Column.numbers(sample_median[order]),
                "n_genes_measured": Column.integers(self._genes_measured(measured)[order]),
            }
        )

    def sample_table(self) -> Table:
        """One row per unit with a cell that passes, in the order of the groups, then of study and sample."""
        grouping = self.grouping
        place = np.empty(grouping.n_groups, np.int64)
        place[self.order] = np.arange(len(self.order))
        units = np.flatnonzero(self.n_cells)
        units = units[np.argsort(place[grouping.unit_group[units]], kind="stable")]
        n_cells, n_hits = self.n_cells[units], self.n_hits[units]
        names = {name: column.take(units) for name, column in grouping.unit_names.items()}
        return Table(
            self._keys(grouping.unit_group[units])
            | names  # a group_by field of the same name says the same
            | {
                "n_cells": Column.integers(n_cells),
                "n_hits": Column.integers(n_hits),
                "hit_fraction": Column.numbers(n_hits / n_cells),
                "mean": Column.numbers(self.sum[units] / n_cells),
            }
        )

    def _keys(self, groups: Ints) -> dict[str, Column]:
        return {field: column.take(groups) for field, column in self.grouping.group_keys.items()}

    def _sample_summary(self) -> tuple[Ints, Floats, Floats]:
        """Per group: number of replicates, mean and median of their hit fractions (NaN without any)."""
        n_groups, units = self.grouping.n_groups, self.replicates
        group = self.grouping.unit_group[units]
        fraction = self.n_hits[units] / self.n_cells[units]
        n_samples = np.bincount(group, minlength=n_groups)
        ordered = fraction[np.lexsort((fraction, group))]
        starts = np.cumsum(n_samples) - n_samples
        some = np.flatnonzero(n_samples)
        low = ordered[starts[some] + (n_samples[some] - 1) // 2]
        high = ordered[starts[some] + n_samples[some] // 2]
        median = np.full(n_groups, np.nan)
        median[some] = (low + high) / 2
        with np.errstate(invalid="ignore"):
            mean = np.bincount(group, fraction, n_groups) / n_samples
        return n_samples, mean, median

    def _genes_measured(self, measured: npt.NDArray[np.int64]) -> Ints:
        """Genes of the signature that every study of the group measured at the least."""
        used = np.flatnonzero(self.n_cells)
        least = np.full(self.grouping.n_groups, np.iinfo(np.int64).max)
        np.minimum.at(least, self.grouping.unit_group[used], measured[self.grouping.unit_study[used]])
        return least


def group_quantiles(snapshot: Snapshot, grouping: Grouping, scores: npt.NDArray[Any]) -> Floats:
    """Median and 90th percentile of the scores of every group, float64 (n_groups, 2)."""
    rows = np.flatnonzero(grouping.codes >= 0)
    block = np.searchsorted(snapshot.block_starts, rows, side="right") - 1
    # blocks without cells share their start with the next block; side="right" passes over them
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


def _total(index: Ints, values: npt.NDArray[Any], n: int) -> npt.NDArray[Any]:
    totals = np.bincount(index, values, n)
    return totals.astype(np.int64) if values.dtype.kind == "i" else totals
