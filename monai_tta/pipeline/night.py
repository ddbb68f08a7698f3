"""A night over a bundle's diary: learn, check what was learnt on images that were held back, write a new checkpoint."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from monai_tta.compute.tensor_files import save_tensors
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.network_copy import copy_sharing_parameters
from monai_tta.core.objectives import Head
from monai_tta.core.shadow import Shadow
from monai_tta.guards import AllOf, Finite, Guard, ViewAgreement, VolumeChange
from monai_tta.guards.evidence import Evidence
from monai_tta.pipeline.bundle import BundleError, SourceBundle
from monai_tta.pipeline.output_head import head_of

NIGHT_GUARD: Guard = AllOf((Finite(), VolumeChange(0.5), ViewAgreement(0.1)))


@dataclass(frozen=True, kw_only=True)
class NightReport:
    """What came of a night.

    Args:
        changed: how many of the network's tensors changed.
        distance: the Euclidean distance of the changed tensors from the source's, as a share of their length there.
        n_checked: how many held-back images the guard saw.
        reason: why the result was refused; None where it was kept.
    """

    changed: int
    distance: float
    n_checked: int
    reason: str | None = None


def consolidate_network(
    network: nn.Module, method: AdaptationMethod, head: Head, held_back: Sequence[Tensor], out: Path, guard: Guard = NIGHT_GUARD
) -> NightReport:
    """Let a method do its night's work, and write the new weights unless the guard refuses them.

    Args:
        network: the source; never written to.
        method: one with a `consolidate`, such as `DyNA`.
        head: what its logits stand for, "softmax" or "sigmoid".
        held_back: windows ``(N, C, *spatial)`` of images that the method does not learn from.
        out: the new checkpoint, a state dict for ``weights_only=True``. It is complete or not written at all.
        guard: sees each held-back image: the old network's answer as the unadapted one, the new network's as the adapted one.

    Raises:
        CannotAdapt: when the method has nothing to learn from.
        FileExistsError: when there is such a file already; it is not touched.
    """
    if out.exists():
        raise FileExistsError(f"{out} is there already; choose another file, so that no checkpoint is lost")
    changed = method.consolidate(network, head)
    state = network.state_dict()
    old = [state[name] for name in changed]
    length = sum(float((tensor.double() ** 2).sum()) for tensor in old) ** 0.5
    moved = sum(float(((new.double() - was.double()) ** 2).sum()) for new, was in zip(changed.values(), old, strict=True)) ** 0.5
    fresh = with_state(network, changed)
    reason = None
    for number, windows in enumerate(held_back, 1):
        found = guard.check(_evidence(network, fresh, windows, head))
        if found is not None:
            reason = f"held-back image {number} of {len(held_back)}: {found}"
            break
    if reason is None:
        save_tensors({**state, **changed}, out)
    share = moved / length if length else 0.0
    return NightReport(changed=len(changed), distance=share, n_checked=len(held_back), reason=reason)


def head_of_bundle(bundle: SourceBundle) -> Head:
    """What a bundle's logits stand for.

    Raises:
        BundleError: when its postprocessing does not say.
    """
    with tempfile.TemporaryDirectory() as folder:
        head = head_of(bundle.transforms(Path(folder))[1])
    if head == "auto":
        raise BundleError("the bundle's postprocessing has no softmax, argmax, sigmoid or threshold that tells its head")
    return head


def with_state(network: nn.Module, changed: dict[str, Tensor]) -> nn.Module:
    """A private copy of a network in which some tensors are others, by their names in its state dict."""
    copy = copy_sharing_parameters(network)
    for name, tensor in changed.items():
        path, _, key = name.rpartition(".")
        module = copy.get_submodule(path)
        if key in module._parameters:
            module._parameters[key] = nn.Parameter(tensor, requires_grad=False)
        else:
            module._buffers[key] = tensor
    return copy


def _evidence(old: nn.Module, new: nn.Module, windows: Tensor, head: Head) -> Evidence:
    """One held-back image, as guards see it."""
    device = next((p.device for p in old.parameters()), torch.device("cpu"))
    before = Shadow(old, head, None)
    after = Shadow(new, head, None)
    parts = windows.to(device).split(1)

    def answer(shadow: Shadow) -> Tensor:
        with torch.no_grad():  # the windows of an image side by side, as one image
            return torch.cat([shadow(part) for part in parts], dim=2)

    return Evidence(
        adapted=answer(after),
        head=head,
        shadow=after,
        compute_unadapted=lambda: answer(before),
        compute_source=lambda: before,
        compute_windows=lambda: parts,
        compute_fresh=lambda _: after,
    )
