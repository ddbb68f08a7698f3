"""Measure at the source, without labels, how much a network's answer depends on each number that may move: for `EATA`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.core.fisher_file import FisherInformation
from monai_tta.core.network_copy import in_eval_mode, network_digest
from monai_tta.core.objectives import Head, cross_entropy
from monai_tta.core.selection import Auto, Selection
from monai_tta.core.shadow import Shadow
from monai_tta.inference.network import unwrap
from monai_tta.pipeline.config_changes import ConfigChanges
from monai_tta.pipeline.describe_error import describe_error
from monai_tta.preparation.labelled_images import plain_tensor
from monai_tta.preparation.rehearsal import adaptation_window
from monai_tta.preparation.source_images import open_source_images

AUTO = Auto()


def fisher_information(network: nn.Module, windows: Sequence[Tensor], head: Head, select: Selection = AUTO) -> FisherInformation:
    """The diagonal of the Fisher information of what may move, from unlabelled windows of the source.

    As in EATA (Niu et al., ICML 2022, arXiv 2204.02610): the mean over windows of the squared gradient of the cross-entropy to
    the network's own hard answer, under each window's own statistics. The paper's batches are 64 images; each of ours is one
    window, which has thousands of voxels.

    Args:
        network: the trained network. It is never changed.
        windows: ``(1, C, *spatial)`` each, preprocessed as the network needs them, on its device.
        head: what its logits stand for.
        select: which tensors may move; the same as for `EATA`.

    Returns:
        the information; ``save(Path("fisher.npz"))`` makes the file for ``EATA(file="fisher.npz")``.

    Raises:
        ValueError: without windows, or where a gradient is not finite.
        CannotAdapt: for a network in which nothing may move.
    """
    if not windows:
        raise ValueError("there is no window to measure on")
    source = unwrap(network)
    shadow = Shadow(source, head, select, "window", 1.0)
    totals = [torch.zeros_like(tensor) for tensor in shadow.moving]
    for window in windows:
        _, gradient = shadow.gradient(_own_answer_loss, window)
        for total, part in zip(totals, gradient, strict=True):
            total += 0 if part is None else part.square()
    if not all(bool(total.isfinite().all()) for total in totals):
        raise ValueError("a gradient is not finite; measure on other windows")
    by_tensor = {id(tensor): total / len(windows) for tensor, total in zip(shadow.moving, totals, strict=True)}
    values = {name: by_tensor[id(shadow.module.get_parameter(name))].detach().cpu().float() for name in shadow.names}
    return FisherInformation(values, network_digest(source), {"windows": len(windows), "selected": shadow.selected})


def _own_answer_loss(shadow: Shadow, windows: Tensor) -> Tensor:
    """Cross-entropy to the shadow's own hard answer, in nats."""
    logits = shadow(windows)
    if shadow.head == "softmax":
        target = nn.functional.one_hot(logits.argmax(1), logits.shape[1]).movedim(-1, 1).to(logits)
    else:
        target = (logits > 0).to(logits)
    return cross_entropy(logits, target.detach(), shadow.head)


def fisher_of_bundle(
    root: Path,
    images: Sequence[Path],
    checkpoint: str = "model.pt",
    keys: dict[str, Any] | None = None,
    device: str | None = None,
    names: Sequence[str] = (),
    select: Selection = AUTO,
) -> Iterator[int | str | FisherInformation]:
    """Measure on unlabelled images of a bundle's source, read by its inference config.

    Each image gives one window, the one that `AdaptiveInferer` would adapt on. Save the result as
    `monai_tta.core.fisher_file.fisher_file` of the checkpoint, and `EATA` finds it in its bundle.

    Args:
        root: the folder of the bundle.
        images: files, or folders of DICOM series.
        checkpoint: a file in the bundle's ``models`` folder.
        keys: entries of the bundle's config to set, as ``--set`` does.
        device: where the network computes, e.g. "cuda:0"; None for where the bundle puts it.
        names: what messages call the images; their files' names if empty.
        select: see `fisher_information`.

    Yields:
        after each image that could be used, how many have been; for each other one, why not; at last the information.

    Raises:
        BundleError: for a bundle that cannot be used.
        ValueError: where no image could be used. Others as `fisher_information`.
    """
    with open_source_images(root, None, checkpoint, device, ConfigChanges.of((), keys), images, names) as source:
        bundle = source.bundle
        network = in_eval_mode(unwrap(bundle.network))
        found: list[tuple[Tensor, Head]] = []
        for image in source.images:
            try:
                x = plain_tensor(image.read()[0])[None].to(bundle.device)
                window = adaptation_window(network, bundle.inferer, x, source.head)
            except Exception as error:  # one bad image must not end the run
                yield f"{image.called}: {describe_error(error)}"
                continue
            if window is None:
                yield f"{image.called}: it has no window that could be adapted on"
                continue
            found.append((window[0].cpu(), window[1]))
            yield len(found)
        if not found:
            raise ValueError(f"none of {len(source.images)} images could be used")
        yield fisher_information(bundle.network, [w.to(bundle.device) for w, _ in found], found[0][1], select)
