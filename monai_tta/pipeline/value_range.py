"""Whether the values that reach a network are in the range that its bundle's preprocessing was written for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NARROW = 0.01  # of the expected range: all values of an image together
_FAR_OUT = 10  # times the declared range


@dataclass(frozen=True)
class ExpectedRange:
    """What a bundle says of its input.

    Args:
        channels: how many channels the network takes; None where the bundle does not say.
        declared: the least and the highest value that its metadata declares for what reaches the network.
        raw: the values in the file that are scaled to ``scaled``, where the last step that changes intensities is such a scaling.
        scaled: what they become.
        clips: whether values outside are clipped.
    """

    channels: int | None = None
    declared: tuple[float, float] | None = None
    raw: tuple[float, float] | None = None
    scaled: tuple[float, float] | None = None
    clips: bool = False

    @property
    def highest(self) -> float | None:
        """The value in a file that becomes the scaled maximum."""
        return None if self.raw is None else self.raw[1]


def expected_range(parser: Any, preprocessing: Any, network: Any = None) -> ExpectedRange:
    """Read what a bundle expects from its metadata and its preprocessing.

    Args:
        parser: of the bundle's config, with its metadata; None where there is none.
        preprocessing: of its inference config.
        network: whose first convolution says how many channels there are, where the metadata do not.
    """
    channels, declared = _declared(parser)
    if channels is None and isinstance(network, nn.Module):
        channels = next((layer.in_channels for layer in network.modules() if isinstance(layer, _CONVOLUTIONS)), None)
    last = None
    for step in _steps(preprocessing):
        if type(step).__module__.startswith("monai.transforms.intensity"):
            last = step
    scaler = getattr(last, "scaler", last)
    ends = [getattr(scaler, name, None) for name in ("a_min", "a_max", "b_min", "b_max")]
    numbers = [float(end) for end in ends if isinstance(end, int | float)]
    if len(numbers) < 4 or numbers[1] <= numbers[0] or numbers[3] <= numbers[2]:
        return ExpectedRange(channels, declared)
    raw, scaled = (numbers[0], numbers[1]), (numbers[2], numbers[3])
    return ExpectedRange(channels, declared, raw, scaled, bool(getattr(scaler, "clip", False)))


def scaled_range(bundle: Any) -> tuple[float, float] | None:
    """The values in a file that a bundle scales for its network, such as -160 to 240 HU; None where it scales by each image.

    Args:
        bundle: the source, a `monai_tta.pipeline.bundle.SourceBundle` or what stands for one.

    Raises:
        BundleError: when its transforms cannot be made.
    """
    with TemporaryDirectory() as folder:
        preprocessing, _ = bundle.transforms(Path(folder))
    return expected_range(getattr(bundle, "parser", None), preprocessing).raw


def check_values(image: Any, expected: ExpectedRange, is_picture: bool = False) -> None:
    """Refuse an image whose values are in another range than the bundle's preprocessing expects.

    Args:
        image: what reaches the network, ``(C, *spatial)``.
        expected: see `expected_range`.
        is_picture: whether it comes from a file of a picture, whose values have ends. Those of a volume may lie beyond what a
            bundle declares.

    Raises:
        ValueError: when all values lie beyond one end of the range; when they differ and fill less than a hundredth of it, as
            fractions do where 0 to 255 is expected; for a picture, when values lie far outside.
    """
    if not isinstance(image, torch.Tensor) or image.numel() == 0 or image.is_complex():
        return
    low, high = float(image.min()), float(image.max())
    if expected.raw is not None and expected.scaled is not None:
        span = expected.scaled[1] - expected.scaled[0]
        found = " to ".join(f"{round(_unscaled(value, expected), 3):.4g}" for value in (low, high))
        words = f"and the bundle's preprocessing expects {expected.raw[0]:g} to {expected.raw[1]:g}"
        is_black = low == expected.scaled[0] and expected.raw[0] == 0
        if expected.clips and low == high and low in expected.scaled and not is_black:
            side = "below" if low == expected.scaled[0] else "above"
            raise ValueError(f"all its values are {_unscaled(low, expected):g} or {side}, {words}")
        if 0 < high - low < _NARROW * span:
            raise ValueError(f"its values lie between {found}, {words}: it is scaled otherwise")
        outside = low < expected.scaled[0] - 0.1 * span or high > expected.scaled[1] + 0.1 * span
        if is_picture and not expected.clips and outside:
            raise ValueError(f"its values lie between {found}, {words}: it has another depth")
    elif is_picture and expected.declared is not None:
        least, most = expected.declared
        room = _FAR_OUT * (most - least)
        if low < least - room or high > most + room:
            raise ValueError(f"values from {low:.4g} to {high:.4g} reach the network, which expects {least:g} to {most:g}")


def _steps(preprocessing: Any) -> Iterator[Any]:
    """All single transforms, in their order."""
    for step in getattr(preprocessing, "transforms", ()) or ():
        if hasattr(step, "transforms"):
            yield from _steps(step)
        else:
            yield step


def _unscaled(value: float, expected: ExpectedRange) -> float:
    (a_min, a_max), (b_min, b_max) = expected.raw or (0.0, 1.0), expected.scaled or (0.0, 1.0)
    return a_min + (value - b_min) * (a_max - a_min) / (b_max - b_min)


def _declared(parser: Any) -> tuple[int | None, tuple[float, float] | None]:
    """Channels and range of values of the metadata's input ``image``, as far as they make sense."""
    try:
        described = parser["_meta_"]["network_data_format"]["inputs"]["image"]
        channels = described.get("num_channels")
        least, most = (float(value) for value in described.get("value_range") or (0, 0))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None, None
    return channels if isinstance(channels, int) else None, (least, most) if most > least else None
