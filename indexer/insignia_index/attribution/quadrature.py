"""Points and weights on the straight path from the baseline to a cell."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from insignia_model.errors import InvalidArgument

#: Names are captum's (``captum.attr._utils.approximation_methods``), and so are the numbers.
QUADRATURES = ("gausslegendre", "riemann_middle")


def points(quadrature: str, n_steps: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Positions (n_steps,) in (0, 1), and their weights (n_steps,), which sum to 1."""
    if n_steps < 1:
        raise InvalidArgument("steps", f"{n_steps} is not at least 1")
    if quadrature == "gausslegendre":
        positions, weights = np.polynomial.legendre.leggauss(n_steps)
        return (1 + positions) / 2, weights / 2
    if quadrature == "riemann_middle":
        return (np.arange(n_steps) + 0.5) / n_steps, np.full(n_steps, 1 / n_steps)
    raise InvalidArgument("quadrature", f"{quadrature!r} is not one of {', '.join(QUADRATURES)}")
