"""From slots to units, groups and their replicates: one call instead of thirty small numpy ones."""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.kernels.score import MAXIMUM, SUM, SUM_OF_SQUARES


@njit(nogil=True, cache=True)
def unit_totals(slot_unit, slot_cells, slot_hits, statistics, n_units):
    """Totals of every unit over its slots: cells, hits (int64), sum, sum of squares, maximum (float64)."""
    cells, hits = np.zeros(n_units, np.int64), np.zeros(n_units, np.int64)
    total, squares = np.zeros(n_units), np.zeros(n_units)
    maximum = np.full(n_units, -np.inf)
    for slot in range(len(slot_unit)):
        unit = slot_unit[slot]
        cells[unit] += slot_cells[slot]
        hits[unit] += slot_hits[slot]
        total[unit] += statistics[slot, SUM]
        squares[unit] += statistics[slot, SUM_OF_SQUARES]
        maximum[unit] = max(maximum[unit], statistics[slot, MAXIMUM])
    return cells, hits, total, squares, maximum


@njit(nogil=True, cache=True)
def group_totals(unit_group, unit_study, cells, hits, total, squares, maximum, measured, n_groups):
    """The same of every group over its units, and the fewest genes that a study of the group measured."""
    group_cells, group_hits = np.zeros(n_groups, np.int64), np.zeros(n_groups, np.int64)
    group_total, group_squares = np.zeros(n_groups), np.zeros(n_groups)
    group_maximum = np.full(n_groups, -np.inf)
    least = np.full(n_groups, np.iinfo(np.int64).max, np.int64)
    for unit in range(len(unit_group)):
        if cells[unit] == 0:
            continue
        group = unit_group[unit]
        group_cells[group] += cells[unit]
        group_hits[group] += hits[unit]
        group_total[group] += total[unit]
        group_squares[group] += squares[unit]
        group_maximum[group] = max(group_maximum[group], maximum[unit])
        least[group] = min(least[group], measured[unit_study[unit]])
    return group_cells, group_hits, group_total, group_squares, group_maximum, least


@njit(nogil=True, cache=True)
def replicate_summary(unit_group, is_named, cells, hits, min_cells, n_groups):
    """Per group: number of replicates, mean and median of their hit fractions (NaN without any).

    A replicate is a unit with a sample name and at least ``min_cells`` cells.
    """
    n_samples = np.zeros(n_groups + 1, np.int64)
    for unit in range(len(unit_group)):
        if is_named[unit] and cells[unit] >= min_cells:
            n_samples[unit_group[unit]] += 1
    starts = np.cumsum(n_samples) - n_samples
    fractions = np.empty(starts[n_groups])
    place = starts.copy()
    for unit in range(len(unit_group)):
        if is_named[unit] and cells[unit] >= min_cells:
            group = unit_group[unit]
            fractions[place[group]] = hits[unit] / cells[unit]
            place[group] += 1
    mean, median = np.full(n_groups, np.nan), np.full(n_groups, np.nan)
    for group in range(n_groups):
        n = n_samples[group]
        if n:
            ordered = np.sort(fractions[starts[group] : starts[group] + n])
            mean[group] = ordered.sum() / n
            median[group] = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return n_samples[:n_groups], mean, median
