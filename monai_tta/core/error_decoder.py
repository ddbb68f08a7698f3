"""A small network that predicts where another network's answer is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FORMAT = 1


class ErrorDecoder(nn.Module):
    """Predict the error of an answer, voxel by voxel, from the image and the answer.

    CoSAM (arXiv 2411.10136, 2024) predicts errors by a U-Net-like decoder from the image encoder's features and the encoded
    mask. Ours sees the image and the answer instead, so that it fits any network, and one decoder serves all objects: each
    is asked about by itself. It has no normalisation layers. `monai_tta.preparation.train_error_decoder` trains it.

    Args:
        in_channels: channels of the images.
        spatial_dims: 2 or 3.
        channels: of each level; each but the first has half the resolution of the one before.

    Raises:
        ValueError: for other dimensions, or no level.
    """

    def __init__(self, in_channels: int, spatial_dims: int, channels: Sequence[int] = (8, 16, 32)) -> None:
        super().__init__()
        if spatial_dims not in (2, 3) or not channels:
            raise ValueError(f"spatial_dims is 2 or 3, with at least one level, found {spatial_dims} and {tuple(channels)}")
        convolution: Any = {2: nn.Conv2d, 3: nn.Conv3d}[spatial_dims]
        self.choices = {"in_channels": in_channels, "spatial_dims": spatial_dims, "channels": list(channels)}
        before = [in_channels + 1, *channels[:-1]]
        self.down = nn.ModuleList(
            convolution(old, new, 3, stride=1 if level == 0 else 2, padding=1)
            for level, (old, new) in enumerate(zip(before, channels, strict=True))
        )
        pairs = list(zip(channels[:-1], channels[1:], strict=True))[::-1]
        self.up = nn.ModuleList(convolution(fine + coarse, fine, 3, padding=1) for fine, coarse in pairs)
        self.last = convolution(channels[0], 1, 1)
        nn.init.constant_(self.last.bias, -2.0)  # most voxels are right

    def logits(self, windows: Tensor, answer: Tensor) -> Tensor:
        """Logits ``(N, B, *spatial)`` of the error, from windows ``(N, C, *spatial)`` and probabilities ``(N, B, *spatial)``."""
        n_windows, n_objects = answer.shape[:2]
        image = windows[:, None].expand(-1, n_objects, *windows.shape[1:])
        features = torch.cat([image, answer[:, :, None].to(windows)], 2).flatten(0, 1)
        levels: list[Tensor] = []
        for layer in self.down:
            features = F.leaky_relu(layer(features), 0.1)
            levels.append(features)
        levels.pop()
        for layer in self.up:
            fine = levels.pop()
            coarse = F.interpolate(features, size=fine.shape[2:], mode="nearest")
            features = F.leaky_relu(layer(torch.cat([fine, coarse], 1)), 0.1)
        return self.last(features).view(n_windows, n_objects, *windows.shape[2:])

    def forward(self, windows: Tensor, answer: Tensor) -> Tensor:
        """The predicted error in [0, 1], ``(N, B, *spatial)``: how likely the mask of each object is wrong at each voxel."""
        return self.logits(windows, answer).sigmoid()


def save_error_decoder(decoder: ErrorDecoder, file: str | PathLike[str]) -> None:
    """Write a decoder to a file, which holds numbers alone.

    Args:
        decoder: a trained decoder.
        file: where to write.
    """
    torch.save({"format": _FORMAT, "choices": decoder.choices, "state": decoder.state_dict()}, file)


def load_error_decoder(file: str | PathLike[str]) -> ErrorDecoder:
    """Read a decoder that `save_error_decoder` wrote. Nothing in the file is executed.

    Args:
        file: what was written.

    Raises:
        ValueError: for a file that is none.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        if content["format"] != _FORMAT:
            raise ValueError(f"it has format {content['format']}")
        decoder = ErrorDecoder(**content["choices"])
        decoder.load_state_dict(content["state"])
    except OSError:
        raise
    except Exception as error:  # whatever is in the file
        raise ValueError(f"{file} cannot be read as an error decoder: {type(error).__name__}: {error}") from error
    return decoder.eval()
