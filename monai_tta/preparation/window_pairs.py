"""Adaptation windows of labelled images, cut with their labels; and what the source's images look like in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from monai_tta.core.answer_form import logits_of
from monai_tta.core.objectives import Head
from monai_tta.core.source_look import SourceLook, backgrounds_of, look_of, mean_look
from monai_tta.inference.network_proxy import NetworkProxy
from monai_tta.inference.window_selection import WindowSelector
from monai_tta.preparation.labelled_images import UsableImage, plain_tensor


def look_of_images(inferer: Callable[..., Any], images: Sequence[UsableImage], head: Head, budget: int) -> SourceLook | None:
    """The mean look of the source's undistorted images, by the adaptation windows of each; None where none has any.

    Args:
        inferer: cuts images into windows.
        images: of the source.
        head: what logits stand for.
        budget: how many windows of an image at most.
    """
    looks = []
    for one in images:
        cut = paired_windows(one.network, inferer, one.image[None], one.label[None], head, budget)
        if cut is not None:
            looks.append(look_of(cut[0], backgrounds_of(cut[0])))
    return mean_look(looks) if looks else None


def paired_windows(
    network: nn.Module, inferer: Callable[..., Any], image: Tensor, label: Tensor, head: Head, budget: int
) -> tuple[Tensor, Tensor] | None:
    """Select the adaptation windows of an image as `AdaptiveInferer` does, and cut its label alike.

    Args:
        network: the source, in eval mode.
        inferer: cuts the image into windows.
        image: ``(1, C, *spatial)``.
        label: ``(1, L, *spatial)``.
        head: what the network's logits stand for.
        budget: how many windows at most.

    Returns:
        windows ``(N, C, *spatial)`` and their labels ``(N, L, *spatial)``; None where no window can be adapted on.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    channels = image.shape[1]
    selector = WindowSelector(budget)
    with_labels: list[Tensor] = []

    def keep(windows: Tensor, *_: Any) -> Tensor:
        """Take the network's place: note every window with its label, and answer anything."""
        own = plain_tensor(windows).detach().clone()
        with_labels.extend(own.split(1))
        selector.offer(own[:, :channels].contiguous())
        return windows[:, :1]

    with torch.no_grad():
        inferer(torch.cat([image, label], 1).to(device), NetworkProxy(network, keep, only_looks_at_windows=True))
        selected = selector.select(partial(logits_of, network, head=head), head)
    if not selected:
        return None
    both = torch.cat([next(w for w in with_labels if torch.equal(w[:, :channels], chosen)) for chosen in selected])
    return both[:, :channels].contiguous(), both[:, channels:]


def preserved_by(images: Sequence[Tensor]) -> Literal["moments", "range"]:
    """What preprocessing keeps the same in every image: "moments" (mean 0 and standard deviation 1) or else the "range"."""
    for image in images:
        if abs(float(image.mean())) >= 0.1 or abs(float(image.std()) - 1) >= 0.1:
            return "range"
    return "moments"
