"""Measure at the source, without labels, how much a network's answer depends on each number that may move: for `EATA`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.core.fisher_file import FisherInformation
from monai_tta.core.network_copy import network_digest
from monai_tta.core.objectives import Head, cross_entropy
from monai_tta.core.selection import Auto, Selection
from monai_tta.core.shadow import Shadow
from monai_tta.inference.network import unwrap
from monai_tta.preparation.rehearsal import collect_windows
from monai_tta.preparation.source_data import load_source

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
    dataset_dir: Path,
    checkpoint: str = "model.pt",
    keys: dict[str, Any] | None = None,
    device: str | None = None,
    select: Selection = AUTO,
) -> Iterator[int | FisherInformation]:
    """Measure on a bundle's own images, read by its evaluate config (with ``keys`` set); no label is used.

    Each image gives one window, the one that `AdaptiveInferer` would adapt on. Save the result as
    `monai_tta.core.fisher_file.fisher_file` of the checkpoint, and `EATA` finds it in its bundle.

    Args:
        root: the folder of the bundle.
        dataset_dir: the folder with the images and labels that the bundle's configs name.
        checkpoint: a file in the bundle's ``models`` folder.
        keys: entries of the evaluate config to set, as ``--set`` does.
        device: where the network computes, e.g. "cuda:0"; None for where the bundle puts it.
        select: see `fisher_information`.

    Yields:
        after each image, how many are done; at last the information.

    Raises:
        BundleError: for a bundle without cases. Others as `fisher_information`.
    """
    source = load_source(root, dataset_dir, checkpoint, keys, device)
    bundle = source.bundle
    found: list[tuple[Tensor, Head]] = []
    yield from collect_windows(source, found)
    yield fisher_information(bundle.network, [w.to(bundle.device) for w, _ in found], found[0][1], select)
