"""Reading the metadata of single cells, which lies in many places.

These kernels keep the GIL: they take microseconds, and another thread that got it meanwhile would have to be
waited for longer than that.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.kernels.memory import view


@njit(cache=True)
def gather_codes(addresses, itemsizes, map_starts, maps, study, row):
    """Codes of cells (study[i], row[i]), int32 (n,), -1 where missing.

    ``addresses`` int64 (n_studies,): where each study keeps its codes of ``itemsizes`` 1, 2 or 4 bytes; 0 if
    it lacks the field. ``maps[map_starts[s] + code]`` int32: what a study's code means to all studies.
    """
    found = np.full(len(row), -1, np.int32)
    for i in range(len(row)):
        s = study[i]
        if addresses[s] == 0:
            continue
        address, n = np.uint64(addresses[s]), row[i] + 1
        if itemsizes[s] == 1:
            code = np.int64(view(address, n, np.int8)[row[i]])
        elif itemsizes[s] == 2:
            code = np.int64(view(address, n, np.int16)[row[i]])
        else:
            code = np.int64(view(address, n, np.int32)[row[i]])
        if code >= 0:
            found[i] = maps[map_starts[s] + code]
    return found


@njit(cache=True)
def renumber_codes(codes):
    """The codes (>= 0) that occur, ascending, and the codes as places among these (-1 stays)."""
    used = np.unique(codes[codes >= 0])
    renumbered = np.full(len(codes), -1, np.int32)
    for i in range(len(codes)):
        if codes[i] >= 0:
            renumbered[i] = np.searchsorted(used, codes[i])
    return used, renumbered


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
