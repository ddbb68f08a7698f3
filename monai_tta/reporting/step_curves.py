"""How losses, cosines and learning rates went over a case's steps, as small curves for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 120.0, 28.0  # of a curve, in the units of its picture
# The height of a curve stands for this share of the figure at least. A change below 0.2 % is then less than one of the 28 pixels
# that it is high, so that the line is flat: it is about what rounding and another machine change. Otherwise a change in the fifth
# digit would look like a whole descent.
LEAST_SHARE = 0.05
COSINE = "cosine"
RATE = "learning rate"
UNITS = (
    "Losses that are entropies are in nats, reconstructions in squared units of the image. The cosine is that of the angle "
    "between the method's two gradients; it and the learning rate have no unit."
)


@dataclass(frozen=True)
class Curve:
    """A figure over the steps.

    Args:
        name: of the figure.
        values: of each step that has it, in their order; at least one.
        least: how large the figure is taken to be at least, when its changes are compared with it; 1 for a cosine.
    """

    name: str
    values: tuple[float, ...]
    least: float = 0.0

    def points(self) -> str:
        """The corners of the line in an SVG of `WIDTH` and `HEIGHT`, small values at the bottom; "" for a single value."""
        if len(self.values) < 2:
            return ""
        low, high = min(self.values), max(self.values)
        spread = max(high - low, LEAST_SHARE * max(abs(low), abs(high), self.least)) or 1.0
        lowest = (low + high - spread) / 2
        apart = WIDTH / (len(self.values) - 1)
        heights = [(value - lowest) / spread for value in self.values]
        return " ".join(f"{number * apart:.1f},{HEIGHT * (1 - height):.1f}" for number, height in enumerate(heights))

    @property
    def words(self) -> str:
        """The first and the last value."""
        first, last = (f"{value:.4g}" for value in (self.values[0], self.values[-1]))
        if len(self.values) == 1:
            return f"{first} in the only step"
        return f"{first} in the first of {len(self.values)} steps, {last} in the last"


def step_curves(steps: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """A curve for each loss, the cosine and the learning rate, where steps have them.

    Args:
        steps: entries of a case's ``steps`` in ``records.json``.
    """
    figures: dict[str, list[float]] = {}
    for step in steps:
        named = {loss_name(name): value for name, value in step["losses"].items()}
        for name, value in {**named, COSINE: step["cosine"], RATE: step["lr"] or None}.items():
            if value is not None:  # null in the records is a number that was not finite, or is not there
                figures.setdefault(name, []).append(float(value))
    return [Curve(name, tuple(values), 1.0 if name == COSINE else 0.0) for name, values in figures.items()]


def loss_name(name: str) -> str:
    """What a loss is called for people.

    Args:
        name: by which a method put it on record.

    >>> loss_name("loss"), loss_name("auxiliary")
    ('loss', 'auxiliary loss')
    """
    return name if name == "loss" else f"{name} loss"
