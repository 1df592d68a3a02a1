"""How figures are written: as many digits as they carry, and words where a digit would mislead."""

from collections.abc import Callable, Collection
from typing import Any

MISSING = "–"
NOT_FINITE = "not finite"
BIT_IDENTICAL = "bit-identical"
EQUAL = "equal"  # of programs
SAME_PROGRAM = "the same program"
SUFFICIENT, NECESSARY = "sufficient", "necessary"  # of conditions
_NARROW_SPACE = "\u202f"


def scientific(value: float | None) -> str:
    """Write a divergence to two digits: ``0``, ``0.27``, ``15``, ``1.2e-13``; None is ``not finite``."""
    if value is None:
        return NOT_FINITE
    if value == 0 or 100 <= value < 10**4:
        return f"{value:.0f}"
    mantissa, _, exponent = f"{value:#.2g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa.rstrip(".")


def count(value: int | None) -> str:
    """Write a whole number in groups of three digits: ``22 500``; None is ``not finite``."""
    return NOT_FINITE if value is None else f"{value:,}".replace(",", _NARROW_SPACE)


def ulps(value: int | None) -> str:
    """Write a distance in units in the last place: exactly while that can be read, else to two digits."""
    return count(value) if value is None or value < 10**6 else scientific(float(value))


def ratio(value: float) -> str:
    """Write a ratio to BP with three digits: ``1.93``, ``12.4``, ``130``."""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def percent(value: float) -> str:
    """Write a fraction as a percentage, without its sign: ``97.4``."""
    return f"{100 * value:.1f}"


def points(value: float) -> str:
    """Write a difference of percentages with its sign: ``+0.3``, ``−44.7``."""
    return f"{value:+.1f}".replace("-", "−")


def milliseconds(seconds: float) -> str:
    """Write seconds as milliseconds with three digits."""
    return ratio(1000 * seconds)


def millions(value: int) -> str:
    """Write a count in millions, with three digits."""
    return ratio(value / 10**6)


def kibibytes(size: int) -> str:
    """Write bytes as whole kibibytes."""
    return count(round(size / 2**10))


def span(values: Collection[float | None], write: Callable[[Any], str]) -> str:
    """Write the range of ``values`` (None exceeds all): ``1.9–3.1``, or one figure if they agree as written."""
    known = [value for value in values if value is not None]
    ends = [write(min(known)), write(max(known))] if known else []
    ends += [NOT_FINITE] if len(known) < len(values) else []
    first, last = ends[0], ends[-1]
    if first == last:
        return first
    # A dash between exponents, or words, would read as a minus sign.
    return f"{first}–{last}" if (first + last).replace(".", "").isdecimal() else f"{first} to {last}"
