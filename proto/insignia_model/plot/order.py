"""An order in which rows that are alike stand together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def alike_together(matrix: npt.NDArray[np.float64]) -> list[int]:
    """Order of the rows of ``matrix (n, m)``: leaves of an average-linkage clustering.

    Sokal and Michener 1958, on Euclidean distances; NaN counts as 0. Of two clusters that are joined, one is
    turned so that their nearest ends meet. Ties: the smaller row. O(n^3): for as many rows as a picture has.
    """
    points = np.nan_to_num(matrix)
    n = len(points)
    between = np.sqrt(((points[:, None, :] - points[None, :, :]) ** 2).sum(axis=2))
    distance = between.copy()
    np.fill_diagonal(distance, np.inf)
    leaves: dict[int, list[int]] = {i: [i] for i in range(n)}
    while len(leaves) > 1:
        i, j = divmod(int(np.argmin(distance)), n)
        a, b = leaves[i], leaves.pop(j)
        sizes = len(a), len(b)
        turns = [(x, y) for x in (a, a[::-1]) for y in (b, b[::-1])]
        x, y = min(turns, key=lambda turn: between[turn[0][-1], turn[1][0]])
        leaves[i] = x + y
        joined = (sizes[0] * distance[i] + sizes[1] * distance[j]) / sum(sizes)
        distance[i], distance[:, i] = joined, joined
        distance[i, i] = np.inf
        distance[j], distance[:, j] = np.inf, np.inf
    return next(iter(leaves.values()), [])
