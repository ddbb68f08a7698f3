"""Guards that check whether an answer or an image is plausible: within given limits, or within the source's reference ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from monai_tta.core.label_free_metrics import mean_entropy
from monai_tta.guards.base import Guard, require
from monai_tta.guards.evidence import Evidence
from monai_tta.guards.reference_ranges import Quantiles, ReferenceRanges, StructureRanges
from monai_tta.guards.shape_features import SMALL, ShapeFeatures, count_components, measure_shape

# Per feature of a shape: how a message calls it, and the least width of its range (a component more is no deviation).
SHAPE_FEATURES = {
    "volume": ("a volume", 0.0),
    "components": ("a component count", 1.0),
    "elongation": ("an elongation", 0.0),
    "compactness": ("a compactness", 0.0),
}


@dataclass(frozen=True, kw_only=True)
class Entropy(Guard):
    """Refuse an adapted answer that is too uncertain, or whose entropy is outside the source's range.

    Give one of ``most`` and ``reference``.

    Args:
        most: the highest entropy allowed, in nats per voxel, at least 0.
        reference: reference ranges of the source.
        slack: how far the entropy may be outside its reference range, in widths of the range, at least 0.

    Raises:
        ValueError: for both or neither of the two, or a value outside its range.
    """

    most: float | None = None
    reference: ReferenceRanges | None = None
    slack: float = 1.0

    def __post_init__(self) -> None:
        if (self.most is None) == (self.reference is None):
            raise ValueError(f"Entropy needs either most or reference; found most={self.most!r}, reference={self.reference!r}")
        require(self.most is None or self.most >= 0, "most", "nats per voxel, at least 0", self.most)
        _check_reference(self.reference, self.slack)

    def check(self, evidence: Evidence) -> str | None:
        """Reads the adapted answer alone. Costs no forward pass."""
        found = mean_entropy(evidence.adapted_probabilities, evidence.head)
        low, high = self._limits()
        if low <= found <= high:
            return None
        return f"the entropy is {found:.3g} nats per voxel ({_format_range(low, high)} expected)"

    def _limits(self) -> tuple[float, float]:
        if self.reference is not None:
            return self.reference.entropy.limits(self.slack)
        assert self.most is not None
        return 0.0, self.most


@dataclass(frozen=True, kw_only=True)
class Distance(Guard):
    """Refuse for an image that is too far from the source's images, or too near to need adapting.

    The distance is that of the normalisation statistics, layer by layer (see `AdaptiveNorm.distance`). A network without running
    statistics (InstanceNorm, GroupNorm, LayerNorm) has none, and nothing is refused. Give at least one of the first three.

    Args:
        most: the largest mean over layers allowed, in standard deviations of the source, above 0.
        least: the smallest mean over layers for which an adapted answer is kept, likewise, at least 0.
        reference: reference ranges of the source; no layer may lie above its own range.
        slack: how far a layer may be above its reference range, in widths of the range, at least 0.

    Raises:
        ValueError: for none of the three, or a value outside its range.
    """

    most: float | None = None
    least: float = 0.0
    reference: ReferenceRanges | None = None
    slack: float = 1.0

    def __post_init__(self) -> None:
        require(self.least >= 0, "least", "in standard deviations, at least 0", self.least)
        if not self.least and self.most is None and self.reference is None:
            raise ValueError("Distance needs at least one of least, most and reference; found none")
        require(self.most is None or self.most > 0, "most", "in standard deviations, above 0", self.most)
        _check_reference(self.reference, self.slack)

    def check(self, evidence: Evidence) -> str | None:
        """Costs one forward pass of each window."""
        layers = evidence.distances
        if not layers:
            return None
        mean = sum(layers) / len(layers)
        if self.most is not None and not mean <= self.most:
            farthest = max(range(len(layers)), key=layers.__getitem__)
            detail = f"at most {self.most:g}; layer {farthest + 1} of {len(layers)} is the farthest, {layers[farthest]:.2f}"
            return f"the image is {mean:.2f} standard deviations from the source ({detail})"
        if mean < self.least:
            detail = f"{mean:.2f} standard deviations from the source (adapted answers are kept from {self.least:g} on)"
            return f"the image is like the source's own: {detail}"
        return None if self.reference is None else _check_layers(layers, self.reference.distances, self.slack)


@dataclass(frozen=True)
class Components(Guard):
    """Refuse a structure in too many components.

    Args:
        most: how many components are allowed, at least 1. Voxels that share a corner belong to the same component.
        small: components of fewer voxels are not counted.

    Raises:
        ValueError: for ``most`` that is no whole number, or below 1.
    """

    most: int = 1
    small: int = SMALL

    def __post_init__(self) -> None:
        require(self.most == int(self.most) >= 1, "most", "a whole number of components, at least 1", self.most)

    def check(self, evidence: Evidence) -> str | None:
        """Reads the adapted answer alone, on the CPU. Costs no forward pass."""
        for number, mask in enumerate(evidence.adapted_masks, 1):
            count = count_components(mask.cpu().numpy(), self.small)
            if count > self.most:
                return f"structure {number} has {count} components (at most {self.most})"
        return None


@dataclass(frozen=True)
class Shape(Guard):
    """Refuse a structure whose volume, component count, elongation or compactness is outside the source's range.

    A structure that the answer does not show is not checked; `VolumeChange` checks that.

    Args:
        reference: reference ranges of the source.
        slack: how far a feature may be outside its reference range, in widths of the range, at least 0.

    Raises:
        ValueError: without reference ranges, or for a ``slack`` below 0.
    """

    reference: ReferenceRanges
    slack: float = 1.0

    def __post_init__(self) -> None:
        require(self.reference is not None, "reference", "needed by Shape", None)
        _check_reference(self.reference, self.slack)

    def check(self, evidence: Evidence) -> str | None:
        """Reads the adapted answer alone, on the CPU. Costs no forward pass."""
        known = self.reference.structures
        masks = evidence.adapted_masks
        if len(known) != len(masks):
            return f"the reference ranges are for {len(known)} structures, the answer has {len(masks)}"
        if self.reference.unit == "affine" and evidence.spacing is None:
            return "the image has no affine, so its volumes cannot be compared with the reference ranges"
        spacing = evidence.spacing if self.reference.unit == "affine" else None
        for number, (ranges, mask) in enumerate(zip(known, masks, strict=True), 1):
            if not bool(mask.any()):
                continue
            reason = _check_shape(measure_shape(mask, spacing, self.reference.small), ranges, self.slack)
            if reason is not None:
                return f"structure {number} {reason}"
        return None


def _check_layers(layers: Sequence[float], ranges: Sequence[Quantiles], slack: float) -> str | None:
    """A reason when a layer's distance is above its reference range."""
    if len(layers) != len(ranges):
        return f"the reference ranges are for {len(ranges)} layers, the network has {len(layers)}"
    for number, (found, quantiles) in enumerate(zip(layers, ranges, strict=True), 1):
        high = quantiles.limits(slack)[1]
        if not found <= high:
            return f"layer {number} of {len(layers)} is {found:.2f} standard deviations from the source (at most {high:.2f})"
    return None


def _check_shape(shape: ShapeFeatures, ranges: StructureRanges, slack: float) -> str | None:
    """The end of a sentence about a structure, when a feature of its shape is outside its reference range."""
    for feature, (name, least_width) in SHAPE_FEATURES.items():
        found = getattr(shape, feature)
        quantiles: Quantiles | None = getattr(ranges, feature)
        if quantiles is None:
            return "is in none of the source's cases"
        low, high = quantiles.limits(slack, least_width)
        if not low <= found <= high:
            return f"has {name} of {_format_number(found)} ({_format_range(low, high)} expected)"
    return None


def _check_reference(reference: Any, slack: float) -> None:
    """Refuse reference ranges of another type and a slack below 0."""
    if not isinstance(reference, ReferenceRanges | None):
        raise ValueError(
            "reference is what monai_tta.guards.read_reference_ranges reads from a file of `monai-tta reference`; "
            f"found {reference!r}"
        )
    require(slack >= 0, "slack", "in widths of the source's range, at least 0", slack)


def _format_range(low: float, high: float) -> str:
    return f"{_format_number(max(low, 0))} to {_format_number(high)}"


def _format_number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
