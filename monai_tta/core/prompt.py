"""A prompt on the image: a factor for each of its lowest spatial frequencies, which a method may move instead of weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.core.errors import CannotAdapt
from monai_tta.core.selection import Selection

__all__ = ["Prompt"]

PROMPT = "low_frequency_prompt"  # the name of the parameter that a prompted network has


@dataclass(frozen=True, kw_only=True)
class Prompt(Selection):
    """A new factor for each low frequency of each input channel, in place of the network's weights. It changes the network.

    The spectrum of a window is multiplied by the prompt near its zero frequency, and by one elsewhere; phases stay. A prompt of
    ones changes nothing. It is VPTTA's (Chen et al., CVPR 2024, arXiv 2311.18363, eq. 2), in 2D and in 3D.

    How many frequencies there are follows from the shortest wave, so it is the same scale of structures in windows of any
    size, and each axis has its own. A window gets the frequencies from ``-n`` to ``n`` cycles along an axis, for the largest
    ``n`` whose waves are no shorter than ``wavelength``, at least 1 and at most ``frequencies``. The paper takes a fixed share
    of a square image's side, 0.01; that is a wavelength of 200 pixels, and would be the mean intensity alone in 3D windows.

    Args:
        frequencies: the most cycles per window and axis, 1 or more. The parameter has ``2 * frequencies + 1`` entries per axis.
        wavelength: of the shortest wave, in voxels; in mm where ``spacing`` is given.
        spacing: mm per voxel along each axis of the windows; empty for voxels.
        published: place the prompt as the paper's code does. There it is not centred in windows of an even side: for 3 entries it
            covers -2 to 0 cycles. Its effect is then half on each of the two frequencies of opposite sign.

    Raises:
        ValueError: for choices out of range.
    """

    frequencies: int = 4
    wavelength: float = 200.0
    spacing: tuple[float, ...] = ()
    published: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.frequencies, int) or self.frequencies < 1:
            raise ValueError(f"frequencies is a whole number, 1 or more, found {self.frequencies!r}")
        if self.wavelength <= 0 or any(step <= 0 for step in self.spacing):
            raise ValueError(f"wavelength and spacing are above 0, found {self.wavelength} and {self.spacing}")

    def __call__(self, network: nn.Module) -> list[str]:
        """The name of the new parameter ``(1, C, *sizes)``; empty for a network without a convolution.

        Args:
            network: a private copy of a network.
        """
        first = next((m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)), None)
        if first is None:
            return []
        size = [2 * self.frequencies + 1] * len(first.kernel_size)
        ones = torch.ones(1, first.in_channels, *size, dtype=first.weight.dtype, device=first.weight.device)
        network.register_parameter(PROMPT, nn.Parameter(ones))
        network.register_forward_pre_hook(_ApplyPrompt(self))
        return [PROMPT]

    def cycles(self, shape: Sequence[int]) -> list[int]:
        """The highest frequency along each axis of a window ``(*spatial)``, in cycles per window.

        Args:
            shape: voxels of a window along each axis.

        Raises:
            CannotAdapt: when ``spacing`` has another number of axes.
        """
        if self.spacing and len(self.spacing) != len(shape):
            raise CannotAdapt(f"the prompt has a spacing for {len(self.spacing)} axes, and windows have {len(shape)}")
        sides = [side * step for side, step in zip(shape, self.spacing or [1.0] * len(shape), strict=True)]
        wanted = [min(self.frequencies, max(1, int(side / self.wavelength))) for side in sides]
        return [min(most, (side - 1) // 2) for most, side in zip(wanted, shape, strict=True)]

    def places(self, shape: Sequence[int]) -> tuple[Tensor, ...]:
        """Where the prompt's frequencies are in the spectrum of a window ``(*spatial)``: indices to use together.

        Args:
            shape: voxels of a window along each axis.
        """
        return tuple(torch.meshgrid(*self._frequencies_in_spectrum(shape), indexing="ij"))

    def used_part(self, prompt: Tensor, shape: Sequence[int]) -> Tensor:
        """The part ``(C, *sizes)`` of a prompt ``(1, C, *all sizes)`` that acts on windows ``(*spatial)``.

        Args:
            prompt: the parameter.
            shape: voxels of a window along each axis.
        """
        part = prompt[0]
        for axis, most in enumerate(self.cycles(shape), 1):
            part = part.narrow(axis, self.frequencies - most, 2 * most + 1)
        return part

    def apply(self, prompt: Tensor, windows: Tensor) -> Tensor:
        """Windows ``(N, C, *spatial)`` with their low frequencies multiplied, in their own dtype.

        Args:
            prompt: the parameter ``(1, C, *all sizes)``.
            windows: ``(N, C, *spatial)``.

        Raises:
            CannotAdapt: when the prompt has other channels or axes than the windows.
        """
        shape = windows.shape[2:]
        if prompt.ndim != windows.ndim or prompt.shape[1] != windows.shape[1]:
            raise CannotAdapt(
                f"the prompt is for {prompt.shape[1]} channels in {prompt.ndim - 2}D, as the network's first convolution takes, "
                f"and windows are {tuple(windows.shape)}; choose another selection"
            )
        factors = prompt.new_ones(prompt.shape[1], *shape)
        factors.movedim(0, -1)[self.places(shape)] = self.used_part(prompt, shape).movedim(0, -1)
        factors = 0.5 * (factors + _at_opposite_frequencies(factors))  # the image is real, so the two act as their mean
        axes = list(range(2, windows.ndim))
        spectrum = torch.fft.rfftn(windows.to(factors.dtype), dim=axes)
        changed = torch.fft.irfftn(spectrum * factors[..., : spectrum.shape[-1]], s=shape, dim=axes)
        return changed.to(windows.dtype)

    def amplitudes(self, windows: Tensor) -> Tensor:
        """The amplitudes of the prompt's frequencies, ``(C, *sizes)``: the mean over windows ``(N, C, *spatial)``.

        Args:
            windows: ``(N, C, *spatial)``.
        """
        shape = windows.shape[2:]
        spectrum = torch.fft.fftn(windows, dim=list(range(2, windows.ndim)))
        return spectrum.abs().mean(0).movedim(0, -1)[self.places(shape)].movedim(-1, 0)

    def _frequencies_in_spectrum(self, shape: Sequence[int]) -> Iterator[Tensor]:
        """For each axis, the indices of the prompt's frequencies in a spectrum that begins with zero cycles."""
        for most, side in zip(self.cycles(shape), shape, strict=True):
            size = 2 * most + 1
            first = (side - size) // 2 - side // 2 if self.published else -most
            yield (torch.arange(size) + first) % side


class _ApplyPrompt:
    """Changes what a network is asked about by the prompt that it has at that time."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt

    def __call__(self, network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The inputs, with the first one prompted."""
        windows, *others = inputs
        return (self.prompt.apply(network.get_parameter(PROMPT), windows), *others)


def _at_opposite_frequencies(factors: Tensor) -> Tensor:
    """Factors ``(C, *spatial)`` of a spectrum, each at the frequency of opposite sign."""
    axes = list(range(1, factors.ndim))
    return factors.flip(axes).roll([1] * len(axes), axes)
