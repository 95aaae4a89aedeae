"""From slots to units, groups and their replicates: one call instead of fifty small numpy ones."""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.kernels.memory import order_key
from insignia_index.kernels.order import order_keys, sort_places
from insignia_index.kernels.score import MAXIMUM, SUM, SUM_OF_SQUARES

#: Squares around a mean that are less than this share of the squares themselves, for each cell, are rounding
#: (of 16 chains that are summed up), or in any case less than the other.
ROUNDING, LEAST_ROUNDING = 2.0**-52 / 16, 1e-14

#: Columns of units and groups that are counts (int64), and that are not (float64).
CELLS, HITS, SAMPLES, LEAST_MEASURED = range(4)
FRACTION, MEAN, SD, LARGEST, SAMPLE_MEAN, SAMPLE_MEDIAN = range(6)


@njit
def _add_slots(slot_unit, slot_cells, slot_hits, statistics, n_units):
    """Counts int64 (2, n_units) and sums float64 (3, n_units) of every unit over its slots."""
    counts, sums = np.zeros((2, n_units), np.int64), np.zeros((3, n_units))
    sums[MAXIMUM] = -np.inf
    for slot in range(len(slot_unit)):
        unit = slot_unit[slot]
        counts[CELLS, unit] += slot_cells[slot]
        counts[HITS, unit] += slot_hits[slot]
        sums[SUM, unit] += statistics[slot, SUM]
        sums[SUM_OF_SQUARES, unit] += statistics[slot, SUM_OF_SQUARES]
        sums[MAXIMUM, unit] = max(sums[MAXIMUM, unit], statistics[slot, MAXIMUM])
    return counts, sums


@njit
def _add_units(unit_group, unit_study, unit_counts, unit_sums, measured, n_groups):
    """Counts int64 (4, n_groups) and sums float64 (3, n_groups) of every group over its units."""
    counts, sums = np.zeros((4, n_groups), np.int64), np.zeros((3, n_groups))
    counts[LEAST_MEASURED] = np.iinfo(np.int64).max
    sums[MAXIMUM] = -np.inf
    for unit in range(len(unit_group)):
        if unit_counts[CELLS, unit] == 0:
            continue
        group = unit_group[unit]
        counts[CELLS, group] += unit_counts[CELLS, unit]
        counts[HITS, group] += unit_counts[HITS, unit]
        counts[LEAST_MEASURED, group] = min(counts[LEAST_MEASURED, group], measured[unit_study[unit]])
        sums[SUM, group] += unit_sums[SUM, unit]
        sums[SUM_OF_SQUARES, group] += unit_sums[SUM_OF_SQUARES, unit]
        sums[MAXIMUM, group] = max(sums[MAXIMUM, group], unit_sums[MAXIMUM, unit])
    return counts, sums


@njit
def _describe(counts, sums, found):
    """Write hit fraction, mean, standard deviation (of a sample: n - 1) and maximum; NaN where undefined."""
    for i in range(counts.shape[1]):
        n = counts[CELLS, i]
        if n == 0:
            continue
        mean = sums[SUM, i] / n
        found[FRACTION, i] = counts[HITS, i] / n
        found[MEAN, i] = mean
        found[LARGEST, i] = sums[MAXIMUM, i]
        if n > 1:
            squares = sums[SUM_OF_SQUARES, i]
            spread = squares - n * mean * mean
            found[SD, i] = (
                np.sqrt(spread / (n - 1)) if spread > max(n * ROUNDING, LEAST_ROUNDING) * squares else 0.0
            )


@njit
def _replicates(unit_group, is_replicate, fractions, counts, found):
    """Write per group the number of its replicates, and mean and median of their hit fractions."""
    for unit in range(len(unit_group)):
        counts[SAMPLES, unit_group[unit]] += is_replicate[unit]
    starts = np.cumsum(counts[SAMPLES]) - counts[SAMPLES]
    by_group, place = np.empty(counts[SAMPLES].sum()), starts.copy()
    for unit in range(len(unit_group)):
        if is_replicate[unit]:
            by_group[place[unit_group[unit]]] = fractions[unit]
            place[unit_group[unit]] += 1
    keys = order_keys(by_group)
    for group in range(len(starts)):
        n = counts[SAMPLES, group]
        if n == 1:  # most, where samples are the groups: without a view of an array
            found[SAMPLE_MEAN, group] = found[SAMPLE_MEDIAN, group] = by_group[starts[group]]
        elif n:
            first, total = starts[group], 0.0
            places = np.arange(first, first + n)
            sort_places(places, keys)
            for place in places:
                total += by_group[place]
            found[SAMPLE_MEAN, group] = total / n
            found[SAMPLE_MEDIAN, group] = (by_group[places[(n - 1) // 2]] + by_group[places[n // 2]]) / 2


@njit
def _rank_groups(counts, fractions):
    """Groups that have cells: highest hit fraction first, then most cells, then lowest index."""
    n, order, keys = 0, np.arange(len(fractions)), np.empty(len(fractions), np.uint64)
    for group in range(len(fractions)):
        if counts[CELLS, group]:
            order[n] = group
            n += 1
        keys[group] = ~np.uint64(counts[CELLS, group])
    order = order[:n]
    sort_places(order, keys)
    for group in range(len(fractions)):
        keys[group] = ~order_key(fractions[group] + 0.0)
    sort_places(order, keys)  # of equal fractions the order by cells stays
    return order


@njit
def _columns(table, places):
    """Columns of a table (n_rows, n), in the order of ``places``."""
    taken = np.empty((len(table), len(places)), table.dtype)
    for row in range(len(table)):
        for i in range(len(places)):
            taken[row, i] = table[row, places[i]]
    return taken


@njit
def _rank_units(unit_group, unit_cells, group_order, n_groups):
    """Units that have cells, in the order of their groups, then of their index."""
    n_units = np.zeros(n_groups, np.int64)
    for unit in range(len(unit_group)):
        n_units[unit_group[unit]] += unit_cells[unit] > 0
    place, n = np.empty(n_groups, np.int64), 0
    for group in group_order:
        place[group] = n
        n += n_units[group]
    order = np.empty(n, np.int64)
    for unit in range(len(unit_group)):
        if unit_cells[unit] > 0:
            order[place[unit_group[unit]]] = unit
            place[unit_group[unit]] += 1
    return order


@njit(cache=True, error_model="numpy")  # keeps the GIL, see `kernels.gather`
def summarise(
    slot_unit, slot_cells, slot_hits, statistics,
    unit_group, unit_study, unit_is_named, measured, min_cells, n_groups,
):  # fmt: skip
    """Totals of units (samples within groups) and of groups.

    By slot: its unit, cells, hits (int64) and statistics (n_slots, 3). By unit: its group, its study and
    whether it has a sample's name. ``measured`` int64 (n_studies,): genes of the signature that each study
    measured. A replicate is a unit that has a name and at least ``min_cells`` cells.

    Returns the groups that have cells (int64, best first) and their counts (4, n) and figures (6, n), then
    the units that have cells in the order of their groups and their counts (2, n) and figures (4, n).
    """
    n_units = len(unit_group)
    unit_counts, unit_sums = _add_slots(slot_unit, slot_cells, slot_hits, statistics, n_units)
    counts, sums = _add_units(unit_group, unit_study, unit_counts, unit_sums, measured, n_groups)
    unit_found, found = np.full((4, n_units), np.nan), np.full((6, n_groups), np.nan)
    _describe(unit_counts, unit_sums, unit_found)
    _describe(counts, sums, found)
    is_replicate = unit_is_named & (unit_counts[CELLS] >= min_cells)
    _replicates(unit_group, is_replicate, unit_found[FRACTION], counts, found)
    groups = _rank_groups(counts, found[FRACTION])
    units = _rank_units(unit_group, unit_counts[CELLS], groups, n_groups)
    return (
        groups, _columns(counts, groups), _columns(found, groups),
        units, _columns(unit_counts, units), _columns(unit_found, units),
    )  # fmt: skip
