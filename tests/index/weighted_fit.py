"""Weighted least squares whose weights know a part of each value's variance, by statsmodels and scipy."""

from typing import Any

import pandas as pd
import statsmodels.formula.api as smf
from scipy.optimize import brentq


def weighted(formula: str, frame: pd.DataFrame) -> Any:
    """Fit of values of variance ``noise`` + tau2, 0 or more, such that the scale is 1 if it can be."""

    def fit(tau2: float) -> Any:
        return smf.wls(formula, frame, weights=1 / (frame["noise"] + tau2)).fit()

    if fit(0.0).scale <= 1:
        return fit(0.0)
    top = 10 * frame["y"].var() + 1
    return fit(brentq(lambda tau2: fit(tau2).scale - 1, 0.0, top, xtol=1e-15, rtol=1e-14))
