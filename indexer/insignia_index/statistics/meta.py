"""Effects of several studies as draws from a distribution of effects."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from insignia_index.statistics.linear import half_width, two_sided

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RandomEffects:
    """Mean effect over studies, its 95 % interval and p; heterogeneity: Q, I2 (0-1), tau2."""

    n_studies: int
    effect: float
    low: float
    high: float
    p: float
    q: float
    i2: float
    tau2: float


def random_effects(effects: Floats, variances: Floats) -> RandomEffects:
    """Summary of two or more studies' ``effects`` with the ``variances`` (above 0) of their estimates, (k,).

    tau2, the variance of the true effects, is Paule and Mandel's (1982, J Res Natl Bur Stand 87:377): the one
    at which the weighted squares about the mean are what is expected, k - 1; it needs no normal distribution,
    has one solution, and is among those recommended by Veroniki et al. (2016, doi:10.1002/jrsm.1164).

    Interval and p are Hartung and Knapp's (2001, doi:10.1002/sim.791): Student's t with k - 1 degrees of
    freedom, the variance of the mean taken from the scatter of the effects. Exact for studies of equal
    precision, where the usual normal interval of a few studies is far too narrow (IntHout et al. 2014,
    doi:10.1186/1471-2288-14-25), and somewhat liberal where precisions differ much: with shuffled labels of
    four studies of ten samples, 6 to 7 % of p were below 0.05 (10 % for a rare hit in small groups). The
    modification by Roever et al. (2015, doi:10.1186/s12874-015-0091-1), which is never narrower than the
    normal interval, had 0.7 %.

    Q: Cochran's, with weights 1 / variance. I2 = max(0, 1 - (k - 1) / Q) (Higgins and Thompson 2002,
    doi:10.1002/sim.1186).
    """
    k = len(effects)
    q = _squares(0.0, effects, variances)
    tau2 = _between(effects, variances, q)
    weights = 1 / (variances + tau2)
    effect = float(np.average(effects, weights=weights))
    # 1 at tau2 > 0, by the definition of tau2, and then below; effects that are all equal show no scatter
    scatter = _squares(tau2, effects, variances) / (k - 1)
    if scatter <= (1e-12 * np.abs(effects).max()) ** 2 * weights.max():  # of rounding alone
        scatter = 1.0
    se = math.sqrt(scatter / weights.sum())
    half = half_width(se, k - 1)
    i2 = max(0.0, 1 - (k - 1) / q) if q > 0 else 0.0
    return RandomEffects(k, effect, effect - half, effect + half, two_sided(effect / se, k - 1), q, i2, tau2)


def _squares(tau2: float, effects: Floats, variances: Floats) -> float:
    """Squares of the effects about their mean, weighted with 1 / (variance + tau2)."""
    weights = 1 / (variances + tau2)
    mean = np.average(effects, weights=weights)
    return float((weights * (effects - mean) ** 2).sum())


def _between(effects: Floats, variances: Floats, q: float) -> float:
    expected = len(effects) - 1
    if q <= expected:
        return 0.0
    # with tau2 above the squares about the plain mean, every weight is below its inverse; twice as much,
    # because of tiny variances that alone may be lost in rounding
    largest = 2 * float(((effects - effects.mean()) ** 2).sum())
    return float(
        brentq(lambda tau2: _squares(tau2, effects, variances) - expected, 0.0, largest, xtol=1e-14 * largest)
    )
