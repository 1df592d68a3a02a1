"""Lines through measured values, with the intervals of their slopes."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import linregress, t

LEVEL = 0.95


def slope(places: ArrayLike, values: ArrayLike) -> dict[str, float | None]:
    """Return ``{"value", "low", "high"}`` of the slope of the line that fits ``values`` best, with its 95 % interval.

    Least squares. Two places have no interval, and one has no slope: None.
    """
    count = np.size(places)
    if count < 2:
        return dict.fromkeys(("value", "low", "high"))
    fit = linregress(places, values)
    if count < 3:
        return {"value": float(fit.slope), "low": None, "high": None}
    # Of values that are all the same SciPy knows no error: there is none.
    error = fit.stderr if np.ptp(values) > 0 else 0.0
    spread = t.ppf((1 + LEVEL) / 2, count - 2) * error
    return {"value": float(fit.slope), "low": float(fit.slope - spread), "high": float(fit.slope + spread)}


def exponent(sizes: ArrayLike, values: ArrayLike) -> dict[str, float | None]:
    """The `slope` of the logarithms: of the power of ``sizes`` that fits ``values`` best."""
    return slope(np.log(sizes), np.log(values))
