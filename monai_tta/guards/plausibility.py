"""Guards that ask whether an answer, or an image, is plausible: within limits of yours, or as the source's own cases were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from monai_tta.core.label_free_metrics import mean_entropy
from monai_tta.guards.base import Guard, demand
from monai_tta.guards.evidence import Evidence
from monai_tta.guards.reference_ranges import Quantiles, ReferenceRanges
from monai_tta.guards.shape_features import SMALL, components, measure_shape


@dataclass(frozen=True, kw_only=True)
class Entropy(Guard):
    """Refuse an adapted answer that is more uncertain than allowed, or leaves the source's range: ``most`` in nats per voxel, or
    ``norms`` with ``slack`` in widths of the source's range. Give one of the two."""

    most: float | None = None
    reference: ReferenceRanges | None = None
    slack: float = 1.0

    def __post_init__(self) -> None:
        _one_of(self, most=self.most, reference=self.reference)
        demand(self.most is None or self.most >= 0, "most", "nats per voxel, at least 0", self.most)
        _check(self.reference, self.slack)

    def check(self, evidence: Evidence) -> str | None:
        """Needs the adapted answer alone."""
        found = mean_entropy(evidence.adapted_probabilities, evidence.head)
        low, high = (0.0, self.most) if self.most is not None else _limits(self.reference, self.slack)
        return None if low <= found <= high else f"the entropy is {found:.3g} nats per voxel ({_range(low, high)} expected)"


@dataclass(frozen=True, kw_only=True)
class Distance(Guard):
    """Refuse for an image that is too far from the source, or too near to need adapting, by its normalisation statistics.

    ``least`` and ``most`` bound the mean over layers, in the source's standard deviations; with ``norms`` no layer may lie above
    its own range in the source's cases by more than ``slack`` widths of it. Says nothing of a network without memory of its
    statistics (InstanceNorm, GroupNorm, LayerNorm).
    """

    most: float | None = None
    least: float = 0.0
    reference: ReferenceRanges | None = None
    slack: float = 1.0

    def __post_init__(self) -> None:
        given = self.least > 0 or self.most is not None or self.reference is not None
        demand(given, "least, most or norms", "needed by Distance", None)
        demand(self.least >= 0, "least", "in standard deviations, at least 0", self.least)
        demand(self.most is None or self.most > 0, "most", "in standard deviations, above 0", self.most)
        _check(self.reference, self.slack)

    def check(self, evidence: Evidence) -> str | None:
        """Needs one forward pass of each window."""
        layers = evidence.distances
        if not layers:
            return None
        mean = sum(layers) / len(layers)
        if self.most is not None and not mean <= self.most:
            worst = max(range(len(layers)), key=layers.__getitem__)
            farthest = f"; layer {worst + 1} of {len(layers)} the farthest, {layers[worst]:.2f}"
            return f"the image is {mean:.2f} deviations from the source (at most {self.most:g}{farthest})"
        if mean < self.least:
            return f"the image is as the source's own: {mean:.2f} deviations from it (adapted from {self.least:g} on)"
        return self._layer_by_layer(layers) if self.reference is not None else None

    def _layer_by_layer(self, layers: tuple[float, ...]) -> str | None:
        assert self.reference is not None
        if len(layers) != len(self.reference.distances):
            return f"the source's norms are of {len(self.reference.distances)} layers, the network has {len(layers)}"
        for number, (found, norm) in enumerate(zip(layers, self.reference.distances, strict=True), 1):
            high = norm.limits(self.slack)[1]
            if not found <= high:
                return f"layer {number} of {len(layers)} is {found:.2f} deviations from the source (at most {high:.2f})"
        return None


@dataclass(frozen=True)
class Components(Guard):
    """Refuse a structure in more than ``most`` pieces, voxels that share a corner hanging together; pieces of fewer than
    ``small`` voxels are not counted."""

    most: int = 1
    small: int = SMALL

    def __post_init__(self) -> None:
        demand(self.most == int(self.most) >= 1, "most", "a whole number of pieces, at least 1", self.most)

    def check(self, evidence: Evidence) -> str | None:
        """Needs the adapted answer alone."""
        for number, mask in enumerate(evidence.adapted_masks, 1):
            if (count := components(mask.cpu().numpy(), self.small)) > self.most:
                return f"structure {number} is in {count} pieces (at most {self.most})"
        return None


@dataclass(frozen=True)
class Shape(Guard):
    """Refuse a structure whose size, number of pieces, elongation or compactness leaves the range of the source's own cases by
    more than ``slack`` widths of it. A structure that the answer does not show is not judged: `VolumeChange` is for that."""

    reference: ReferenceRanges
    slack: float = 1.0

    def __post_init__(self) -> None:
        demand(self.reference is not None, "reference", "needed by Shape", None)
        _check(self.reference, self.slack)

    def check(self, evidence: Evidence) -> str | None:
        """Needs the adapted answer alone."""
        known, masks = self.reference.structures, evidence.adapted_masks
        if len(known) != len(masks):
            return f"the source's norms are of {len(known)} structures, the answer has {len(masks)}"
        if self.reference.unit == "affine" and evidence.spacing is None:
            return "the image has no affine, without which its volumes can't be compared with the source's norms"
        spacing = evidence.spacing if self.reference.unit == "affine" else None
        for number, (norm, mask) in enumerate(zip(known, masks, strict=True), 1):
            if not bool(mask.any()):
                continue
            found = measure_shape(mask, spacing, self.reference.small)
            for name, least in (("volume", 0.0), ("components", 1.0), ("elongation", 0.0), ("compactness", 0.0)):
                spread: Quantiles | None = getattr(norm, name)
                if spread is None:
                    return f"structure {number} is in none of the source's cases"
                low, high = spread.limits(self.slack, least)
                if not low <= getattr(found, name) <= high:
                    return f"structure {number} has a {name} of {_figure(getattr(found, name))} ({_range(low, high)} expected)"
        return None


def _one_of(guard: Guard, **choices: Any) -> None:
    if sum(value is not None for value in choices.values()) != 1:
        raise ValueError(f"{type(guard).__name__} needs one of {', '.join(choices)}; found {choices!r}")


def _check(reference: Any, slack: float) -> None:
    """Refuse norms of another kind and a slack below 0."""
    if not isinstance(reference, ReferenceRanges | None):
        raise ValueError(
            f"norms are what monai_tta.guards.read_norms reads from a file of `monai-tta reference`; found {reference!r}"
        )
    demand(slack >= 0, "slack", "in widths of the source's range, at least 0", slack)


def _limits(reference: ReferenceRanges | None, slack: float) -> tuple[float, float]:
    assert reference is not None
    return reference.entropy.limits(slack)


def _range(low: float, high: float) -> str:
    return f"{_figure(max(low, 0))} to {_figure(high)}"


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
