"""What the source's own inputs are like: figures with their spread, and how far from them an input may be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, isfinite, log
from os import PathLike
from pathlib import Path
from statistics import median
from typing import Any

from monai_tta.quality.input_figures import LEAST_SPREAD
from monai_tta.quality.possible_corrections import HomeScale

FORMAT = 1
LEAST_CASES = 5
_ALWAYS = {"extent x", "extent y", "values", "entropy", "share", "size"}  # of any image
_MOST = 400.0  # one figure counts at most as if it were 20 deviations away: beyond, how far says nothing
_BEYOND = 3.0  # deviations of the logarithm of home's distances, between their mean and the limit


@dataclass(frozen=True)
class InputReference:
    """What the source's own inputs are like.

    Args:
        cases: how many were measured.
        figures: for each figure its median and its spread (a standard deviation, at least `LEAST_SPREAD`).
        scale: on which scale the source's images are.
        limit: the distance up to which an input is like the source's own.
    """

    cases: int
    figures: Mapping[str, tuple[float, float]]
    scale: HomeScale
    limit: float

    def distance(self, found: Mapping[str, float]) -> float:
        """How far figures are from home: the sum of `distances`."""
        return sum(self.distances(found).values())

    def distances(self, found: Mapping[str, float]) -> dict[str, float]:
        """By kind of figure (the first word of its name), the mean squared deviation from home, in squared spreads.

        Args:
            found: some of the figures; those that home does not have are left out. A missing kind is left out, so that the
                distance of some figures is a lower bound of the distance of all.
        """
        kinds: dict[str, list[float]] = {}
        for name, value in found.items():
            if name in self.figures:
                middle, spread = self.figures[name]
                square = min(_MOST, ((value - middle) / spread) ** 2) if isfinite(value) else _MOST
                kinds.setdefault(name.split()[0], []).append(square)
        return {kind: sum(squares) / len(squares) for kind, squares in kinds.items()}

    def deviation(self, name: str, value: float) -> float:
        """How many spreads a figure is above home's median; 0 for a figure that home does not have."""
        if name not in self.figures:
            return 0.0
        middle, spread = self.figures[name]
        return (value - middle) / spread

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        rounded = {name: [round(value, 5) for value in pair] for name, pair in self.figures.items()}
        return {"format": FORMAT, **asdict(self), "figures": rounded}

    @classmethod
    def from_dict(cls, raw: Any) -> InputReference:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: for anything else.
        """
        try:
            if raw["format"] != FORMAT:
                raise ValueError(f"format {raw['format']!r}")
            if lacking := _ALWAYS - set(raw["figures"]):
                raise ValueError(f"without the figures {', '.join(sorted(lacking))}")
            scale = raw["scale"]
            spacing = scale["spacing"]
            figures = {str(name): (float(pair[0]), float(pair[1])) for name, pair in raw["figures"].items()}
            if (
                not figures
                or any(not isfinite(v) for pair in figures.values() for v in pair)
                or any(s <= 0 for _, s in figures.values())
            ):
                raise ValueError("a figure that is not finite, or without spread")
            low, middle, high = (float(value) for value in scale["intensity"])
            home = HomeScale((low, middle, high), None if spacing is None else tuple(float(s) for s in spacing))
            limit = float(raw["limit"])
            if not (isfinite(limit) and limit > 0):
                raise ValueError(f"a limit of {limit}")
            return cls(int(raw["cases"]), figures, home, limit)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no figures of the source's inputs: {error!r}; measure them with `monai-tta reference`") from error


def reference_of_cases(found: Sequence[Mapping[str, float]], scales: Sequence[HomeScale]) -> InputReference:
    """Figures of home inputs to an `InputReference`.

    The limit follows from how far each home case is from the others: their distances' logarithms, mean plus three deviations, and
    at least twice the largest.

    Args:
        found: for each case all its figures.
        scales: of each case.

    Raises:
        ValueError: for fewer than `LEAST_CASES` cases.
    """
    if len(found) < LEAST_CASES:
        raise ValueError(f"input checks need at least {LEAST_CASES} images of the source, found {len(found)}")
    scale = _typical_scale(scales)
    whole = InputReference(len(found), _spreads(found), scale, 0.0)
    left_out = []
    for number, one in enumerate(found):
        others = InputReference(len(found) - 1, _spreads([*found[:number], *found[number + 1 :]]), scale, 0.0)
        left_out.append(others.distance(one))
    return InputReference(whole.cases, whole.figures, scale, _limit(left_out))


def read_input_reference(path: str | PathLike[str]) -> InputReference | None:
    """The figures of inputs in a file that `monai-tta reference` wrote; None where the file has none.

    Args:
        path: the file.

    Raises:
        ValueError: for a file that is missing or holds something else.
    """
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"no reference in {path}: {error.strerror}; write one with `monai-tta reference`") from error
    except ValueError as error:
        raise ValueError(f"{path} is no reference: {error}") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{path} is no reference: it holds no JSON object")
    return None if raw.get("inputs") is None else InputReference.from_dict(raw["inputs"])


def _spreads(found: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Median and spread of each figure that all cases have. The spread is that of a new case, so a little wider for few."""
    names = [name for name in found[0] if all(name in one for one in found)]
    spreads = {}
    for name in names:
        values = [one[name] for one in found]
        middle = median(values)
        variance = sum((value - middle) ** 2 for value in values) / len(values) * (1 + 1 / len(values))
        spreads[name] = (middle, max(variance**0.5, LEAST_SPREAD[name.split()[0]]))
    return spreads


def _limit(distances: Sequence[float]) -> float:
    """The distance up to which a new home case is to be expected."""
    logs = [log(max(distance, 0.1)) for distance in distances]
    mean = sum(logs) / len(logs)
    deviation = (sum((value - mean) ** 2 for value in logs) / (len(logs) - 1)) ** 0.5
    return max(exp(mean + _BEYOND * deviation), 2 * max(distances))


def _typical_scale(scales: Sequence[HomeScale]) -> HomeScale:
    """Medians, number by number."""
    low, middle, high = (median(values) for values in zip(*(s.intensity for s in scales), strict=True))
    spacings = [s.spacing for s in scales if s.spacing is not None]
    spacing = tuple(median(values) for values in zip(*spacings, strict=True)) if len(spacings) == len(scales) else None
    return HomeScale((low, middle, high), spacing)
