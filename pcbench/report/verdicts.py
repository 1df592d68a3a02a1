"""What each rule's weight update is of backpropagation's, over all settings tried: a verdict, and what it rests on."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pcbench.params import Result
from pcbench.report.fits import exponent, slope

EQUAL, ROUNDING, SCALED = "equal", "equal up to rounding", "equal up to scale"
APPROACHES, DOES_NOT = "approaches", "does not"
# By what two gradients are equal: every operation, every bit, every number (zeros may differ in their signs), or all but
# rounding.
PROGRAM, BITS, NUMBERS, ROUNDED = "program", "bits", "numbers", "rounding"

# Relative, in float64, whose rounding is 1e-16: operations enlarge it, to 1e-13 in the state form of Z-IL. What approaches
# backpropagation was never nearer than 1e-6.
ROUNDING_LEVEL = 1e-10
# A slope has an interval from three points on.
LEAST_POINTS = 3
# The grids double an option from value to value, or more: a distance that falls as a root of it at least falls by this.
# One that has come to its floor does not.
STILL_FALLING = 2**-0.5

# What may be zero or approach it, and what is met or approached then; the first that does is the verdict's.
MEASURES = {
    "relative_l2": "BP",
    "residual": "BP with a scale",
    "tensor_residual": "BP with a scale for each tensor",
}
FIGURES = ("relative_l2", "scale", "residual", "tensor_residual", "tensors", "scaled_tensors")


def verdict(records: Sequence[Result]) -> Result:
    """Judge a rule on one task.

    Args:
        records: its records in a result of the stage ``conformance``, of all settings, dtypes and seeds.

    Returns:
        ``{"verdict", "by", "of", "rate", "settings", "options", ...}``: the verdict, what an equality rests on, what is
        approached or met up to scale, how fast (`approach`), how many settings were tried, and the one that the other figures
        are of, which stand as they were measured, of the farthest seed. None where there is no such thing.
    """
    settings = [_Setting(of_setting) for of_setting in _by_options(records)]
    found = _equal(settings) or _scaled(settings) or _approaching(settings)
    found = found or {"verdict": DOES_NOT, "at": _nearest(settings, "residual")}
    at = found.pop("at")
    return {"by": None, "of": None, "rate": None, **found, "settings": len(settings), **at.figures()}


class _Setting:
    """The records of one rule at one setting."""

    def __init__(self, records):
        self.options, self.records = records[0]["options"], records
        self.metrics = [record["metrics"] for record in records]
        self.distances = [record["metrics"] for record in records if record["dtype"] == "float64"]
        self.proofs = [metrics["proof"] for metrics in self.metrics if "proof" in metrics]

    def worst(self, measure):
        """The largest of the seeds' distances; infinite where one is no finite number."""
        return max(np.inf if each[measure] is None else each[measure] for each in self.distances)

    def everywhere(self, holds):
        """Whether something holds in every dtype, and of every seed; the other dtypes were only asked where it may."""
        return len({record["dtype"] for record in self.records}) > 1 and all(map(holds, self.metrics))

    def scaled(self):
        """Whether the bits are backpropagation's times one power of two, the same of every seed and dtype."""
        same = self.everywhere(lambda metrics: metrics["scaled_bitwise"])
        return same and len({round(math.log2(abs(each["scale"]))) for each in self.metrics}) == 1

    def scaled_by_tensor(self):
        """Whether that holds of every tensor with a power of its own."""
        return self.everywhere(lambda metrics: metrics["scaled_tensors"] == len(metrics["scales"]))

    def figures(self):
        shown = max(self.distances, key=lambda each: np.inf if each["relative_l2"] is None else each["relative_l2"])
        scales = [scale for scale in shown["scales"].values() if scale is not None]
        return {
            "options": self.options,
            **{key: len(shown["scales"]) if key == "tensors" else shown[key] for key in FIGURES},
            **{"scale_low": min(scales, default=None), "scale_high": max(scales, default=None)},
        }


def _by_options(records):
    groups: dict[Any, list[Result]] = {}
    for record in records:
        groups.setdefault(tuple(record["options"].items()), []).append(record)
    return groups.values()


def _equal(settings):
    for by, holds in (
        (PROGRAM, lambda s: s.everywhere(lambda m: m["bitwise_equal"]) and any(p.get("equal") for p in s.proofs)),
        (BITS, lambda s: s.everywhere(lambda m: m["bitwise_equal"])),
        (NUMBERS, lambda s: s.everywhere(lambda m: m["l2"] == 0)),
    ):
        for setting in filter(holds, settings):
            return {"verdict": EQUAL, "by": by, "at": setting}
    nearest = _nearest(settings, "relative_l2")
    if nearest.worst("relative_l2") <= ROUNDING_LEVEL:
        return {"verdict": ROUNDING, "by": ROUNDED, "at": nearest}
    return None


def _scaled(settings):
    for measure, exact in (("residual", _Setting.scaled), ("tensor_residual", _Setting.scaled_by_tensor)):
        scaled = {"verdict": SCALED, "of": MEASURES[measure]}
        for setting in filter(exact, settings):
            return {**scaled, "by": BITS, "at": setting}
        nearest = _nearest(settings, measure)
        if nearest.worst(measure) <= ROUNDING_LEVEL:
            return {**scaled, "by": ROUNDED, "at": nearest}
    return None


def _approaching(settings):
    for measure, of in MEASURES.items():
        nearest = _nearest(settings, measure)
        for option in nearest.options:
            series = [s for s in settings if {**s.options, option: None} == {**nearest.options, option: None}]
            rate = approach([s.options[option] for s in series], [s.worst(measure) for s in series], option)
            if rate is not None:
                return {"verdict": APPROACHES, "of": of, "rate": rate, "at": nearest}
    return None


def _nearest(settings, measure):
    return min(settings, key=lambda setting: setting.worst(measure))


def approach(values: Sequence[Any], distances: Sequence[float], option: str) -> Result | None:
    """How fast a distance falls towards an option's limit; None if it does not, or if that cannot be told.

    Args:
        values: the option's; the last of them as listed lies towards its limit.
        distances: at each of them.
        option: its name. With ``steps``, of dynamics that relax, a distance falls geometrically, with others as a power.

    Returns:
        ``{"option", "kind", "value", "low", "high"}``: of the kind ``exponent`` the power with which the distance goes as the
        option's value, of the kind ``per step`` the slope of its logarithm over T; with the slope's 95 % interval, which
        excludes zero. At the limit's end the distance is the least, and still falls (`STILL_FALLING`).
    """
    if len(values) < LEAST_POINTS or not all(type(value) in (int, float) and value > 0 for value in values):
        return None
    pairs = sorted(zip(values, distances, strict=True), reverse=values[-1] < values[0])
    places, found = [place for place, _ in pairs], [distance for _, distance in pairs]
    if not all(0 < distance < np.inf for distance in found):
        return None
    if found[-1] > min(found) or found[-1] > STILL_FALLING * found[-2]:
        return None
    kind = "per step" if option == "steps" else "exponent"
    rate = slope(places, np.log(found)) if kind == "per step" else exponent(places, found)
    ends = [rate["low"], rate["high"]]
    towards = -1 if places[-1] > places[0] else 1
    if any(end is None or towards * end <= 0 for end in ends):
        return None
    return {"option": option, "kind": kind, **rate}
