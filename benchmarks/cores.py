"""What a second thread is worth on this machine, whatever runs on it: bare loops, without a search."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit

from report import Row, ratio
from timing import interleaved, p50

#: float32 of an array that each thread sums: 16 KB stay in the nearest cache of a core, 256 KB in the second.
LOOPS = {"nearest cache": 1 << 12, "second-level cache": 1 << 16}
N_SUMMED = 1 << 25  # some milliseconds


@njit(nogil=True, fastmath=True)
def add_again(values, n_times):
    """Return the sum of `values`, float32 (n,), times `n_times`, adding every one every time."""
    total = np.float32(0)
    for _ in range(n_times):
        values[0] += 1  # else the sum is the same every time, and taken once
        for i in range(len(values)):  # by index: so it is vectors that are added
            total += values[i]
    return total


def second_thread(rounds: int) -> list[Row]:
    """Return how many times as much two threads add as one, without a search."""
    rows = []
    with ThreadPoolExecutor(2) as pool:
        for where, n in LOOPS.items():
            arrays = [np.ones(n, np.float32) for _ in range(2)]

            def add(used: int, arrays: list[np.ndarray] = arrays, n: int = n) -> None:
                list(pool.map(lambda array: add_again(array, N_SUMMED // n), arrays[:used]))

            seconds = interleaved({used: lambda used=used, add=add: add(used) for used in (1, 2)}, rounds)
            what = f"bare additions, {where}: two threads against one"
            rows.append(ratio(what, 2 * p50(seconds[1]), p50(seconds[2])))
    return rows
