"""Weighted least squares whose weights know a part of each value's variance, by statsmodels and scipy."""

from typing import Any

import pandas as pd
import statsmodels.formula.api as smf
from scipy.optimize import brentq


def weighted(formula: str, frame: pd.DataFrame) -> tuple[float, float, float, float]:
    """t, p and bounds of the coefficient of ``side``; a value has the variance ``noise`` + tau2.

    tau2 is 0 or more, such that the scale of the weights is 1 if it can be; a smaller scale counts as 1.
    """

    def fit(tau2: float, scale: Any = None) -> Any:
        model = smf.wls(formula, frame, weights=1 / (frame["noise"] + tau2))
        if scale is None:
            return model.fit()
        return model.fit(cov_type="fixed scale", cov_kwds={"scale": scale}, use_t=True)

    if fit(0.0).scale <= 1:
        found = fit(0.0, 1.0)
    else:
        top = 10 * frame["y"].var() + 1
        found = fit(brentq(lambda tau2: fit(tau2).scale - 1, 0.0, top, xtol=1e-15, rtol=1e-14))
    return found.tvalues["side"], found.pvalues["side"], *found.conf_int().loc["side"]
