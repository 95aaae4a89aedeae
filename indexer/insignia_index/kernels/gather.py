"""Reading the metadata of single cells, which lies in many places.

These kernels keep the GIL: they take microseconds, and another thread that got it meanwhile would have to be
waited for longer than that.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.kernels.memory import view
from insignia_index.kernels.order import sort_places


@njit
def _code(address, itemsize, row):
    """The code of a row of a study, -1 if the study lacks the field (address 0)."""
    if address == 0:
        return -1
    at, n = np.uint64(address), row + 1
    if itemsize == 1:
        return np.int64(view(at, n, np.int8)[row])
    if itemsize == 2:
        return np.int64(view(at, n, np.int16)[row])
    return np.int64(view(at, n, np.int32)[row])


@njit
def _renumber(codes, used):
    """Make codes places among those that occur, ascending (``used``); -1 stays. Returns how many occur."""
    n_used, places, keys = 0, np.arange(len(codes)), np.empty(len(codes), np.uint64)
    for i in range(len(codes)):
        keys[i] = np.uint64(codes[i] + 1)
    sort_places(places, keys)
    for place in places:
        code = codes[place]
        if code < 0:
            continue
        if n_used == 0 or used[n_used - 1] != code:
            used[n_used] = code
            n_used += 1
        codes[place] = n_used - 1
    return n_used


@njit(cache=True)
def gather_categories(addresses, itemsizes, map_starts, maps, n_names, study, row):
    """Codes of cells (study[i], row[i]) in several fields, int32 (n_fields, n), -1 where missing.

    ``addresses`` int64 (n_fields, n_studies): where each study keeps its codes of ``itemsizes`` 1, 2 or 4
    bytes; 0 if it lacks the field. ``maps[map_starts[f, s] + code]`` int32: what a study's code means to all
    studies. Where a field has more ``n_names`` than there are cells, codes are places among the names that
    occur. Returns also how many these are (-1: all names), and which, int32 (n_fields, n).
    """
    n_fields, n = len(addresses), len(row)
    codes, used = np.full((n_fields, n), -1, np.int32), np.empty((n_fields, n), np.int32)
    n_used = np.full(n_fields, -1, np.int64)
    for f in range(n_fields):
        for i in range(n):
            s = study[i]
            code = _code(addresses[f, s], itemsizes[f, s], row[i])
            if code >= 0:
                codes[f, i] = maps[map_starts[f, s] + code]
        if n_names[f] > n:
            n_used[f] = _renumber(codes[f], used[f])
    return codes, n_used, used


@njit(cache=True)
def gather_items(addresses, study, row, items):
    """Copy the values of cells (study[i], row[i]) to ``items`` uint8 (n, itemsize).

    ``addresses`` int64 (n_studies,): where each study keeps its values; of address 0 nothing is copied.
    """
    size = items.shape[1]
    for i in range(len(row)):
        if addresses[study[i]]:
            source = view(np.uint64(addresses[study[i]] + row[i] * size), size, np.uint8)
            for j in range(size):
                items[i, j] = source[j]


@njit(cache=True)
def gather_text(start_addresses, run_addresses, study, row):
    """Texts of cells (study[i], row[i]), each with its end mark, as one uint8 run.

    Each study keeps uint32 starts (n_cells + 1,) and the run of its texts.
    """
    starts, lengths = np.empty(len(row), np.int64), np.empty(len(row), np.int64)
    for i in range(len(row)):
        both = view(np.uint64(start_addresses[study[i]] + 4 * row[i]), 2, np.uint32)
        starts[i], lengths[i] = both[0], np.int64(both[1]) - np.int64(both[0])
    run, n = np.empty(lengths.sum(), np.uint8), 0
    for i in range(len(row)):
        source = view(np.uint64(run_addresses[study[i]] + starts[i]), lengths[i], np.uint8)
        for j in range(lengths[i]):
            run[n + j] = source[j]
        n += lengths[i]
    return run


@njit(cache=True)
def find_text(starts, run_address, name):
    """Place of the text ``name`` uint8 (m,), with its end mark, in a run; -1 if it is not there.

    ``starts`` uint32 (n + 1,): where each text of the run begins.
    """
    m = len(name)
    for i in range(len(starts) - 1):
        start, stop = np.int64(starts[i]), np.int64(starts[i + 1])
        if stop - start != m:
            continue
        text = view(np.uint64(run_address + start), m, np.uint8)
        j = m - 1
        while j >= 0 and text[j] == name[j]:  # names have beginnings in common more often than ends
            j -= 1
        if j < 0:
            return i
    return -1
