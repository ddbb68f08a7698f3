"""How a report writes numbers: one form for each kind, and a dash where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Any


def signed(points: float) -> str:
    """A change in points (hundredths of Dice), with its sign where it has one at this precision.

    >>> signed(6.14), signed(-0.04), signed(float("nan"))
    ('+6.1', '0.0', '-')
    """
    return "-" if isnan(points) else f"{points:+.1f}".replace("+0.0", "0.0").replace("-0.0", "0.0")


def decimal(value: float, form: str = ".3f") -> str:
    """A number in this format."""
    return "-" if isnan(value) else format(value, form)


def p_value(value: float) -> str:
    """A p in [0, 1] with three places."""
    return "< 0.001" if value < 0.001 else decimal(value)


def counted(count: int, total: int, noun: str = "") -> str:
    """A count, of how many, and its share; the share never says 0 % or 100 % where that is not exact.

    >>> counted(3, 25, "cases"), counted(1, 400), counted(0, 0)
    ('3 of 25 cases (12 %)', '1 of 400 (under 1 %)', '-')
    """
    if not total:
        return "-"
    share = percent(count / total)
    if share == "0 %" and count > 0:
        share = "under 1 %"
    if share == "100 %" and count < total:
        share = "over 99 %"
    return f"{count} of {total}{' ' * bool(noun)}{noun} ({share})"


def percent(share: float) -> str:
    """A share in [0, 1] as whole percent."""
    return f"{100 * share:.0f} %"


def number_of(count: int, nouns: str) -> str:
    """A number of things.

    Args:
        count: how many.
        nouns: what they are, a plural that ends in "s".

    >>> number_of(2, "images"), number_of(1, "images")
    ('2 images', '1 image')
    """
    return f"{count} {nouns.removesuffix('s') if count == 1 else nouns}"


def wanted_dice(dice: float) -> str:
    """A Dice that somebody named, with all its digits, at least two.

    >>> wanted_dice(0.8), wanted_dice(0.825)
    ('.80', '.825')
    """
    exact = f"{dice:g}"
    return two_digits(dice) if float(f"{dice:.2f}") == float(exact) else exact.removeprefix("0")


def four_digits(value: Any) -> str:
    """A value of a record: a number with four digits, yes or no for what is true or false, else as it is.

    >>> four_digits(0.00041063298801553106), four_digits(True), four_digits("exact")
    ('0.0004106', 'yes', 'exact')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def two_digits(dice: float) -> str:
    """A Dice as people write it.

    >>> two_digits(0.8249), two_digits(1.0), two_digits(0.0)
    ('.82', '1.00', '.00')
    """
    text = f"{dice:.2f}"
    return text if text.startswith("1") else text.removeprefix("0")


def with_interval(dice: float, low: float, high: float) -> str:
    """A Dice with the interval that holds it.

    >>> with_interval(0.82, 0.71, 0.88)
    '.82 (.71 to .88)'
    """
    return f"{two_digits(dice)} ({two_digits(low)} to {two_digits(high)})"


def label_amount(label: Mapping[str, Any]) -> tuple[float, str]:
    """How much of a label a mask holds, and the unit: ml or mm2 where these are known, else what was counted.

    Args:
        label: an entry of a case's ``labels`` in ``records.json``.

    >>> label_amount({"voxels": 1200, "ml": 1.2}), label_amount({"pixels": 7, "mm2": None})
    ((1.2, 'ml'), (7, 'pixels'))
    """
    sized, counted_as = ("mm2", "pixels") if "pixels" in label else ("ml", "voxels")
    unit = sized if label[sized] is not None else counted_as
    return label[unit], unit
