"""False discovery rates. Without scipy, which the client does without."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def false_discovery_rate(p: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Benjamini and Hochberg's adjusted p of ``p`` (n,); NaN, which is no test, stays NaN and is not counted.

    Benjamini and Hochberg (1995), J. R. Stat. Soc. B 57:289: the smallest of p n / rank of this and of all
    larger p.
    """
    p = np.asarray(p, np.float64)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    adjusted = p[order] * len(order) / np.arange(1, len(order) + 1)
    rate = np.full(len(p), np.nan)
    rate[order] = np.minimum.accumulate(adjusted[::-1])[::-1].clip(max=1)
    return rate
