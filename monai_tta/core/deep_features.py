"""The deepest features of a network: what it makes of a window where it sees it most coarsely.

They are found by watching a forward pass, so no architecture need be known.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from monai_tta.core.errors import CannotAdapt
from monai_tta.core.shadow import Shadow


def logits_and_deepest(shadow: Shadow, windows: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of windows ``(N, C, *spatial)``, and their deepest features ``(N, F, *coarse)``.

    These are the output of the layer with the fewest voxels, more than one; of several such, of the one with the most channels;
    of several of these, of the first in the forward pass. In a U-Net that is the first convolution at the bottleneck. Behind a
    global pooling there is one voxel, which is no map.

    Args:
        shadow: answers the windows.
        windows: ``(N, C, *spatial)``.

    Raises:
        CannotAdapt: for a network in which no layer puts out such features.
    """
    best: list[Tensor] = []

    def watch(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and _is_map(output, windows) and (not best or _rank(output) < _rank(best[0])):
            best[:] = [output]

    hooks = [m.register_forward_hook(watch) for m in shadow.module.modules() if not any(m.children())]
    try:
        logits = shadow(windows)
    finally:
        for hook in hooks:
            hook.remove()
    if not best:
        raise CannotAdapt(
            f"no layer of {shadow.kind} puts out features that are a map of the window, by which it could be compared"
        )
    return logits, best[0]


def _is_map(output: Tensor, windows: Tensor) -> bool:
    return output.ndim == windows.ndim and len(output) == len(windows) and output[0, 0].numel() > 1


def _rank(features: Tensor) -> tuple[int, int]:
    """The fewer voxels the better, then the more channels the better."""
    return features[0, 0].numel(), -features.shape[1]


def pooled(features: Tensor) -> Tensor:
    """Each channel's mean over voxels ``(N, F)`` of features ``(N, F, *coarse)``, at least float32."""
    flat = features.flatten(2)
    return (flat if flat.dtype.itemsize > 4 else flat.float()).mean(2)
