"""Upper tails of skewed distributions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincc, ndtr

Floats = npt.NDArray[np.float64]

#: Below this a distribution is as good as normal, and the gamma function's shape too large.
_SYMMETRIC = 1e-3
#: A left-skewed Pearson III ends somewhere on the right, where the truth need not: from here on it is not
#: followed further than the normal.
_TRUSTED = 1e-4
#: No p is 0.
SMALLEST_P = 1e-300


def pearson3_upper_tail(z: Floats, skew: Floats) -> Floats:
    """P(Z >= z) of the Pearson III (shifted gamma) with mean 0, variance 1 and ``skew``; NaN stays NaN.

    Johnson, Kotz & Balakrishnan, Continuous Univariate Distributions 1, chapter 17.
    """
    normal = ndtr(-z)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        shape = 4 / np.square(skew)
        at = np.maximum(shape + 2 * z / skew, 0)
        right = gammaincc(shape, at)
        left = 1 - gammaincc(shape, at)
    left = np.where(left > _TRUSTED, left, np.minimum(normal, _TRUSTED))
    p = np.where(np.abs(skew) < _SYMMETRIC, normal, np.where(skew > 0, right, left))
    return np.asarray(np.where(np.isnan(z), np.nan, np.maximum(p, SMALLEST_P)))


def sampled_upper_tail(draws: Floats, observed: Floats, tolerance: Floats) -> tuple[Floats, Floats]:
    """P(draw >= observed) of every column: its estimate and the number of draws that reach it.

    ``draws`` float64 (n_draws, n), ``observed`` and ``tolerance`` (rounding) (n,). Counted, with the observed
    one among them, while at least `_COUNTED` draws reach it. Beyond, a generalised Pareto distribution is
    fitted, by moments, to the largest draws (Pickands 1975; for permutation tests Knijnenburg et al. 2009,
    doi:10.1093/bioinformatics/btp211). Its shape is not let below 0, the exponential: a tail that seems to
    end may not, and p should rather be too large.
    """
    reach = (draws >= observed - tolerance).sum(axis=0)
    p = (reach + 1.0) / (len(draws) + 1.0)
    for i in np.flatnonzero(reach < _COUNTED).tolist():
        p[i] = _beyond(draws[:, i], float(observed[i]), p[i])
    return p, reach.astype(np.float64)


#: Draws that must reach a score for its p to be counted: 10 have a relative error of a third.
_COUNTED = 10
#: Largest draws to which a tail is fitted.
_TAIL_SHARE, _TAIL_LEAST = 0.025, 50


def _beyond(draws: Floats, observed: float, counted: float) -> float:
    n_tail = max(_TAIL_LEAST, int(_TAIL_SHARE * len(draws)))
    if n_tail + 1 >= len(draws):
        return counted
    largest = np.partition(draws, len(draws) - n_tail - 1)[-n_tail - 1 :]
    threshold = float(largest.min())
    over = np.sort(largest)[1:] - threshold
    mean, variance = float(over.mean()), float(over.var(ddof=1))
    if not (mean > 0 and variance > 0 and observed > threshold):
        return counted
    shape = max(0.0, 0.5 * (1 - mean**2 / variance))
    scale = mean * (1 - shape)
    distance = (observed - threshold) / scale
    log_tail = -distance if shape < 1e-6 else -np.log1p(shape * distance) / shape
    return float(max(SMALLEST_P, n_tail / len(draws) * np.exp(log_tail)))
