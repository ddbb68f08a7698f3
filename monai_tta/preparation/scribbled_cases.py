"""Scribbled cases to learn from: checked, and cut into windows around the scribbles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_tta.compute.precision import at_least_float32
from monai_tta.core.objectives import Head
from monai_tta.preparation.labelled_images import plain_tensor

NEAR = 0.5  # the weight from which a voxel counts as scribbled: it is half a distance away or nearer


@dataclass(frozen=True, eq=False)
class ScribbledCase:
    """An image with its soft label and weight, as channels of one tensor.

    Args:
        voxels: image, soft label and weight ``(C + K + 1, *spatial)``.
        channels: K, of the soft label.
    """

    voxels: Tensor
    channels: int

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Image ``(1, C, *spatial)``, soft label ``(1, K, *spatial)`` and weight ``(1, 1, *spatial)``."""
        return split_windows(self.voxels[None], self.channels)

    def places(self, head: Head) -> list[Tensor]:
        """For each class that was scribbled on, the voxels ``(M, axes)`` near its scribbles."""
        _, (label,), ((weight,),) = self.parts()
        kind = label.argmax(0) if head == "softmax" else torch.where(label.amax(0) > 0.5, label.argmax(0) + 1, 0)
        near = weight >= NEAR
        return [(near & (kind == k)).nonzero() for k in kind[near].unique().tolist()]

    def draw_windows(self, places: list[Tensor], roi_size: Any, n_windows: int, generator: torch.Generator) -> Tensor:
        """Windows that hold a scribble, of each class equally often, at a place in the window that is drawn.

        Args:
            places: as `places` gives them.
            roi_size: the sides of a window, None or below 1 for the whole image's. A window that is larger than the image has
                zeros around it, as MONAI's sliding windows.
            n_windows: how many. One, where a window is the whole image.
            generator: of all draws.

        Returns:
            ``(N, C + K + 1, *sides)``; the mean of all weights is 1.
        """
        shape = self.voxels.shape[1:]
        wanted = roi_size if isinstance(roi_size, list | tuple) else [roi_size] * len(shape)
        if len(wanted) != len(shape):
            raise ValueError(f"roi_size {tuple(wanted)} has {len(wanted)} axes, and the images have {len(shape)}")
        sides = [side if side is not None and side > 0 else length for side, length in zip(wanted, shape, strict=True)]

        def draw(below: int) -> int:
            return int(torch.randint(below, (), generator=generator))

        windows = []
        for _ in range(1 if list(shape) == sides else n_windows):
            of_class = places[draw(len(places))]
            window = self.voxels
            for axis, (place, side) in enumerate(zip(of_class[draw(len(of_class))].tolist(), sides, strict=True), 1):
                length = window.shape[axis]
                start = min(max(place - draw(side), 0), max(length - side, 0))
                window = window.narrow(axis, start, min(side, length))
            gaps = [side - length for side, length in zip(sides, window.shape[1:], strict=True)]
            windows.append(F.pad(window, [width for gap in reversed(gaps) for width in (gap // 2, gap - gap // 2)]))
        batch = torch.stack(windows)
        batch[:, -1] /= batch[:, -1].mean()
        return batch


def split_windows(windows: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images, soft labels and weights of windows ``(N, C + K + 1, *spatial)``; ``channels`` is K."""
    images, label, weight = windows.split([windows.shape[1] - channels - 1, channels, 1], 1)
    return images.contiguous(), label, weight


def checked_cases(cases: Sequence[Mapping[str, Tensor]], least_weight: float = 0.0) -> list[ScribbledCase]:
    """Cases from dictionaries with ``image``, ``soft_label`` and ``weight``, without meta data.

    Args:
        cases: the dictionaries.
        least_weight: weights below this become 0.

    Raises:
        ValueError: for no case, or one that cannot be learnt from.
    """
    if not cases:
        raise ValueError("there is no scribbled case to fine-tune on")
    checked = [_checked(number, case, least_weight) for number, case in enumerate(cases)]
    if len({(len(case.voxels), case.channels) for case in checked}) > 1:
        raise ValueError("the cases have different numbers of channels")
    return checked


def _checked(number: int, case: Mapping[str, Tensor], least_weight: float) -> ScribbledCase:
    parts = [at_least_float32(plain_tensor(case[key]).detach()) for key in ("image", "soft_label", "weight")]
    shapes = [tuple(part.shape) for part in parts]
    if len({shape[1:] for shape in shapes}) > 1 or shapes[2][0] != 1:
        raise ValueError(
            f"case {number}: image, soft label and weight are {', '.join(map(str, shapes))}; all need a channel axis first, "
            "then the same sizes, and the weight one channel"
        )
    weight = torch.where(parts[2] < least_weight, 0, parts[2])
    voxels = torch.cat([*parts[:2], weight])
    if not bool(voxels.isfinite().all()):
        raise ValueError(f"case {number} holds NaN or infinity; replace them first")
    most = float(weight.max())
    if most < NEAR:
        raise ValueError(
            f"case {number} has no scribble on its image: the largest weight is {most:g}; "
            "check that the two lie on each other, or take a longer half distance"
        )
    return ScribbledCase(voxels, len(parts[1]))
