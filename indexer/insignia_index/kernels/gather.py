"""Reading single cells of metadata columns that lie in many places."""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.kernels.memory import view


@njit(nogil=True, cache=True)
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
