"""How losses, cosines and learning rates went over a case's steps, as small curves for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 120.0, 28.0  # of a curve, in the units of its picture


@dataclass(frozen=True)
class Curve:
    """A figure over the steps.

    Args:
        name: of the figure.
        values: of each step that has it, in their order; at least one.
    """

    name: str
    values: tuple[float, ...]

    def points(self) -> str:
        """The corners of the line in an SVG of `WIDTH` and `HEIGHT`, the smallest value at the bottom; "" for a single value."""
        if len(self.values) < 2:
            return ""
        low, high = min(self.values), max(self.values)
        apart = WIDTH / (len(self.values) - 1)
        heights = [(value - low) / (high - low) if high > low else 0.5 for value in self.values]
        return " ".join(f"{number * apart:.1f},{HEIGHT * (1 - height):.1f}" for number, height in enumerate(heights))


def step_curves(steps: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """A curve for each loss, the cosine and the learning rate, where steps have them.

    Args:
        steps: entries of a case's ``steps`` in ``records.json``.
    """
    figures: dict[str, list[float]] = {}
    for step in steps:
        named = {f"loss: {name}": value for name, value in step["losses"].items()}
        for name, value in {**named, "cosine": step["cosine"], "learning rate": step["lr"] or None}.items():
            if value is not None:  # null in the records is a number that was not finite, or is not there
                figures.setdefault(name, []).append(float(value))
    return [Curve(name, tuple(values)) for name, values in figures.items()]
