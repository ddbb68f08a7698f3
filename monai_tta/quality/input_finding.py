"""What is wrong with an input, if anything: which correction brings it home, how sure that is, or what else is unusual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, isfinite, log
from typing import Any

from monai_tta.quality.corrections import Correction
from monai_tta.quality.input_reference import InputReference

EQUALLY_GOOD = 6.0  # corrections that bring an image home within this distance of each other cannot be told apart
_MOST_NAMED = 3
_SMALLER = log(0.8)  # an extent below this part of home's is a smaller field of view
_LARGER = log(1.25)
_FAR = 3.0  # times the limit: nearer, what no correction mends is taken for a shift, which adapting is for


@dataclass(frozen=True)
class Remedy:
    """A correction and what came of it.

    Args:
        correction: which.
        distance: of the corrected image from home.
        sure: how sure it is that this one is right, in [0, 1].
    """

    correction: Correction
    distance: float
    sure: float

    @property
    def words(self) -> str:
        """The correction and how sure it is. Never said is more than 99 %: that is all that some tens of images can show."""
        return f"{self.correction.words} ({min(self.sure, 0.99):.0%} sure)"


@dataclass(frozen=True)
class Finding:
    """What an input check found.

    Args:
        distance: of the image as given from home.
        limit: up to which an image is like home's.
        remedies: the correction that brings it home, and those equally good; empty where there is none.
        diagnosis: what is unusual where no correction helps: "mask", "cropped", "padded", "spacing" or "unlike"; empty otherwise.
        words: one line for people.
    """

    distance: float
    limit: float
    remedies: tuple[Remedy, ...] = ()
    diagnosis: str = ""
    words: str = "looks like the source's images"

    @property
    def noticed(self) -> bool:
        """Whether something is wrong: a correction helps, or a diagnosis was made."""
        return bool(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """What is named: the remedies, or the diagnosis."""
        return tuple(remedy.correction.name for remedy in self.remedies) or ((self.diagnosis,) if self.diagnosis else ())

    @property
    def only_remedy(self) -> Remedy | None:
        """The one correction that fits; None where there is none, or where several are equally good."""
        return self.remedies[0] if len(self.remedies) == 1 else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON, without names of files."""
        remedies = [
            {"correction": r.correction.name, "words": r.correction.words, "sure": round(r.sure, 3)} for r in self.remedies
        ]
        return {
            "noticed": self.noticed,
            "distance": round(self.distance, 2),
            "limit": round(self.limit, 2),
            "corrections": remedies,
            "diagnosis": self.diagnosis,
            "words": self.words,
        }


def finding_of(
    reference: InputReference, given: Mapping[str, float], tried: Sequence[tuple[Correction, Mapping[str, float]]]
) -> Finding:
    """Judge an image by its figures, and by its figures after each correction.

    Args:
        reference: of the source's inputs.
        given: all figures of the image as given, or those that could be taken.
        tried: corrections that change what the network sees, each with all figures of the corrected image.
    """
    distance = reference.distance(given)
    if distance <= reference.limit:
        return Finding(distance, reference.limit)
    if reference.deviation("values", given.get("values", 0.0)) < -4:
        words = f"holds only {round(exp(given['values']))} distinct values: a mask, or an empty image?"
        return Finding(distance, reference.limit, (), "mask", words)
    ranked = sorted(((reference.distance(figures), correction) for correction, figures in tried), key=lambda pair: pair[0])
    if ranked and ranked[0][0] <= reference.limit and ranked[0][0] < distance / 2:
        best = ranked[0][0]
        weights = [exp((best - d) / 2) for d, _ in ranked]
        total = sum(weights) + exp((best - distance) / 2) + exp((best - 2 * reference.limit) / 2)
        fitting = [
            Remedy(correction, d, weight / total)
            for (d, correction), weight in zip(ranked, weights, strict=True)
            if d - best <= EQUALLY_GOOD and d <= reference.limit
        ]
        return Finding(distance, reference.limit, tuple(fitting), "", _remedy_words(fitting))
    diagnosis, words = _diagnosis(reference, given)
    return Finding(distance, reference.limit, (), diagnosis, words)


def _remedy_words(fitting: Sequence[Remedy]) -> str:
    each = [remedy.words for remedy in fitting[:_MOST_NAMED]]
    more = f"; or {len(fitting) - _MOST_NAMED} more" if len(fitting) > _MOST_NAMED else ""
    which = "one correction makes it look like the source's: " if len(each) == 1 else "equally good corrections make it look so: "
    return "unlike the source's images; " + which + "; or ".join(each) + more


def _diagnosis(reference: InputReference, given: Mapping[str, float]) -> tuple[str, str]:
    """What is unusual where no correction helps."""
    off = {
        name: value - reference.figures[name][0] for name, value in given.items() if name in reference.figures and isfinite(value)
    }
    beyond = {name: abs(reference.deviation(name, given[name])) > 1.5 for name in off}
    spacing = [name for name in off if name.startswith("spacing") and beyond[name]]
    small = [name for name in off if name.startswith("extent") and beyond[name] and off[name] < _SMALLER]
    large = [name for name in off if name.startswith("extent") and beyond[name] and off[name] > _LARGER]
    if spacing:
        text = ", ".join(f"{name[-1]}: {exp(given[name]):.3g}, usually {exp(reference.figures[name][0]):.3g}" for name in spacing)
        return "spacing", f"unlike the source's images; no single correction helps; its spacing is unusual ({text})"
    kinds = reference.distances(given)
    is_near = sum(kinds.values()) <= _FAR * reference.limit
    is_picture = not any(name.startswith("spacing") for name in off)  # its size in pixels is no field of view
    if is_near and (is_picture or not (small or large)):
        return "", "somewhat unlike the source's images, as a shift makes them; no single correction helps"
    if small:
        text = ", ".join(f"{name[-1]}: {exp(off[name]):.0%}" for name in small)
        return (
            "cropped",
            f"unlike the source's images; no single correction helps; its field of view is smaller (cropped? {text})",
        )
    if large:
        text = ", ".join(f"{name[-1]}: {exp(off[name]):.0%}" for name in large)
        return "padded", f"unlike the source's images; no single correction helps; its field of view is larger (padded? {text})"
    most = max(kinds, key=lambda kind: kinds[kind]) if kinds else "nothing"
    means = f"unlike the source's images, most in {_KINDS.get(most, most)}; no single correction helps"
    return "unlike", f"{means}: another modality or sequence, or a shift that adapting is for"


_KINDS = {
    "spacing": "voxel size",
    "extent": "field of view",
    "values": "the number of distinct values",
    "grey": "brightness",
    "inside": "brightness inside what was found",
    "centre": "where something was found",
    "entropy": "how unsure the network is",
    "share": "how much was found",
    "size": "how much was found",
}
