"""STAG: structural test-time alignment of gradients (Shin et al.; arXiv 2402.09004 v2, 2026). A reconstruction."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn

from monai_tta.compute.precision import at_least_float32
from monai_tta.core.entropy_gradients import (
    Reading,
    class_anchors,
    cosines_by_feature,
    cosines_by_row,
    drawn_voxels,
    voxel_shares,
)
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.method import AdaptationMethod, Loss
from monai_tta.core.objectives import Head
from monai_tta.core.record import Step
from monai_tta.core.shadow import Shadow
from monai_tta.core.wrapper import Wrapper
from monai_tta.methods.grata import GraTa

NO_CLASSIFIER = (
    "does not end in a convolution of size 1 whose output is the answer, so a voxel has no feature and a class no row; "
    "BasicUNet, DynUNet, SegResNet and UNETR end so, MONAI's UNet does not"
)


@dataclass(frozen=True, kw_only=True)
class STAG(Wrapper):
    """Add to another method's loss how far the entropy gradients of voxels point away from the anchor of their class.

    Shin et al., arXiv 2402.09004 v2, 2026 (v1, 2024: GAP). A reconstruction: we found no code, and know the paper by its
    abstract. An anchor is the gradient of the entropy that the source's classifier would have if the feature were the class's own
    row of weights. The term is ``weight`` times the mean over voxels of 1 minus the cosine between a voxel's gradient and the
    anchor of its predicted class. Gradients and anchors are closed formulas of the last layer's weights, logits and features.

    It takes no forward and no backward pass of its own. It keeps nothing from case to case, and needs from the source only the
    network. Its last layer must be a convolution of size 1 that gives the answer itself, such as that of BasicUNet, DynUNet,
    SegResNet or UNETR; MONAI's UNet ends otherwise and is refused. The inner method must learn.

    Ours: the three readings, ``weight``, equal classes, and that the gradient of the term flows through features and
    probabilities, while anchors and predicted classes are constant. By "feature" and by "term" a classifier of two classes is
    refused, because all its gradients lie on one line. By "row" the term is 1 minus the cosine between a voxel's feature and the
    source's row of its class: an attraction to prototypes. A sigmoid channel has one row ``w`` and allows "row" alone: it
    is a classifier of two classes with rows ``w`` and 0, and voxels outside the structure have no anchor and do not count.

    Args:
        inner: the method whose loss the term is added to.
        weight: of the term, 0 or more.
        reading: the gradient of what, by what. "feature": the entropy, by the voxel's feature. "term": the predicted class's term
            of the entropy, ``-p log p``, by the feature. "row": the entropy, by the predicted class's row of weights.
        equal_classes: whether all classes that are predicted in a window count alike. False: all voxels, so mostly background.
        voxels: how many voxels of each window to look at, drawn at random for each case; None for all.

    Raises:
        ValueError: for choices out of range.
    """

    inner: AdaptationMethod = GraTa()
    weight: float = 0.1
    reading: Reading = "feature"
    equal_classes: bool = True
    voxels: int | None = None

    def __post_init__(self) -> None:
        if self.reading not in get_args(Reading):
            raise ValueError(f"reading must be 'feature', 'term' or 'row', found {self.reading!r}")
        if not self.weight >= 0:
            raise ValueError(f"weight is 0 or more, found {self.weight}")
        if self.voxels is not None and (not isinstance(self.voxels, int) or self.voxels < 1):
            raise ValueError(f"voxels is a whole number, 1 or more, or None for all, found {self.voxels!r}")

    def begin(self, source: nn.Module, head: Head) -> Shadow:
        """The inner method's shadow, with the source's layers that may turn out to be its classifier.

        Raises:
            CannotAdapt: for a network without such a layer, a method that moves nothing, or a head that has no such reading.
        """
        shadow = self.inner.begin(source, head)
        if not shadow.moving:
            raise CannotAdapt(f"STAG adds to a loss that moves something, and {self.inner.record_name} moves nothing")
        if head == "sigmoid" and self.reading != "row":
            raise CannotAdapt(f"a sigmoid channel has one row of weights, which allows reading='row' alone, not {self.reading!r}")
        layers = {name: layer for name, layer in source.named_modules() if _is_linear(layer)}
        if not layers:
            raise CannotAdapt(f"{shadow.kind} {NO_CLASSIFIER}")
        shadow.kept[self] = _Classifier(layers)
        return shadow

    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """What the inner method does. The voxels to look at are drawn once, for all its steps and windows."""
        if self.voxels is not None:
            shadow.kept[self].seed = shadow.draw()
        return self.inner.adapt(shadow, windows, loss)

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """The inner loss plus the weighted term, which is in [0, 2] before it is weighted.

        Raises:
            CannotAdapt: when the inner loss does not end in a classifier for which the term can be computed.
        """
        classifier: _Classifier = shadow.kept[self]
        with classifier.catch_passes(shadow) as passes:
            inner = self.inner.loss(shadow, windows)
        if not passes:
            raise CannotAdapt("the inner loss asks the network for no answer that takes a gradient, and STAG needs one")
        if passes[-1] is None:
            raise CannotAdapt(f"{shadow.kind} {NO_CLASSIFIER}")
        return inner + self.weight * self._term(shadow, *passes[-1])

    def _term(self, shadow: Shadow, name: str, features: Tensor, logits: Tensor) -> Tensor:
        """Mean of 1 minus cosine, for a layer's features ``(N, F, *spatial)`` and logits ``(N, K, *spatial)``."""
        if shadow.head == "softmax" and logits.shape[1] == 2 and self.reading != "row":
            raise CannotAdapt("with two classes all entropy gradients by the feature lie on one line; choose reading='row'")
        classifier: _Classifier = shadow.kept[self]
        anchors = classifier.anchors_of(name, shadow.head, self.reading)
        voxels = drawn_voxels(logits[0, 0].numel(), self.voxels, classifier.seed)
        found = at_least_float32(logits.flatten(2)[..., voxels])
        if self.reading == "row":
            if features.requires_grad:
                features.register_hook(
                    shadow.layout
                )  # as for the logits: layers are slower where their gradient's layout differs
            cosines = cosines_by_row(at_least_float32(features.flatten(2)[..., voxels]), anchors)
        else:
            weight, _ = rows_and_biases(shadow.module.get_submodule(name))
            cosines = cosines_by_feature(found, weight, anchors, self.reading)
        return (voxel_shares(found.detach(), shadow.head, self.equal_classes) * (1 - cosines)).sum((1, 2)).mean()


class _Classifier:
    """The last layer of a network: which one it is, and its anchors.

    Args:
        layers: the source's layers that may be it, by name. The first forward pass shows which one gives the answer.
    """

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        self.layers = layers
        self.anchors: Tensor | None = None
        self.seed = 0

    def anchors_of(self, name: str, head: Head, reading: Reading) -> Tensor:
        """The anchors ``(K, F)`` of this layer of the source, computed once."""
        if self.anchors is None:
            self.layers = {name: self.layers[name]}
            weight, bias = rows_and_biases(self.layers[name])
            self.anchors = class_anchors(weight.detach(), bias.detach(), head, reading)
        return self.anchors

    @contextmanager
    def catch_passes(self, shadow: Shadow) -> Iterator[list[tuple[str, Tensor, Tensor] | None]]:
        """A ``with`` block that lists the shadow's forward passes, without those that take no gradient where others do.

        Of each pass it keeps the classifier's name, features and logits; None where no known layer gave the answer itself.
        """
        is_recording = torch.is_grad_enabled()
        calls: list[tuple[str, Tensor, Tensor]] = []
        passes: list[tuple[str, Tensor, Tensor] | None] = []

        def note_call(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if torch.is_grad_enabled() == is_recording:
                calls.append((name, inputs[0], output))

        def note_pass(network: nn.Module, inputs: Any, output: Any) -> None:
            if torch.is_grad_enabled() == is_recording:
                answer = shadow.reader.main(output)
                passes[:] = [next((call for call in calls if call[2] is answer), None)]
                calls.clear()

        hooks = [shadow.module.get_submodule(n).register_forward_hook(partial(note_call, n)) for n in self.layers]
        hooks.append(shadow.module.register_forward_hook(note_pass))
        try:
            yield passes
        finally:
            for hook in hooks:
                hook.remove()


def rows_and_biases(layer: Any) -> tuple[Tensor, Tensor]:
    """Weights ``(K, F)`` and biases ``(K,)`` of a convolution of size 1, in float32 or wider."""
    weight = at_least_float32(layer.weight.flatten(1))
    return weight, weight.new_zeros(len(weight)) if layer.bias is None else at_least_float32(layer.bias)


def _is_linear(layer: nn.Module) -> bool:
    """Whether a layer multiplies each voxel's feature by a matrix, at the same resolution."""
    if not isinstance(layer, nn.Conv2d | nn.Conv3d) or type(layer).forward not in (nn.Conv2d.forward, nn.Conv3d.forward):
        return False
    is_padded = not isinstance(layer.padding, str) and any(layer.padding)
    return {*layer.kernel_size, *layer.stride, layer.groups} == {1} and not is_padded
