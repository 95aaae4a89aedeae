"""Groups of too few cells for the null of random signatures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def untested(columns: dict[str, npt.NDArray[np.float64]], rows: npt.NDArray[np.bool_]) -> None:
    """Take z and p from ``rows`` bool (n,) of the columns: some genes of a few cells are always extreme."""
    for name in ("null_z", "null_p"):
        columns[name][rows] = np.nan
