"""Which parameters of a shadow a method may change, by name."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from monai_tta.core.normalization import AdaptiveNorm

__all__ = [
    "Selection",
    "NormAffine",
    "Biases",
    "Everything",
    "Matching",
    "AttachedAffine",
    "LastBiases",
    "PromptParameters",
    "Auto",
    "ExceptLast",
]


class Selection(ABC):
    """Which parameters may move: a function from a network to names of its parameters."""

    @property
    def alternatives(self) -> tuple[Selection, ...]:
        """The selections to try, in order. The first that finds anything is used, and the case's record names it."""
        return (self,)

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that it reads."""
        return ()

    @property
    def record_name(self) -> str:
        """What records call it: its repr, unless that holds a path."""
        return repr(self)

    @abstractmethod
    def __call__(self, network: nn.Module) -> list[str]:
        """Names of the parameters that may move, as in ``network.named_parameters()`` and in that order; empty for none.

        Args:
            network: a private copy of a network, which the selection may extend.
        """


@dataclass(frozen=True)
class NormAffine(Selection):
    """Scale and shift of every normalisation layer (Batch, Instance, Group, Layer)."""

    def __call__(self, network: nn.Module) -> list[str]:
        """Names of weights and biases of normalisation layers."""
        kinds = (_NormBase, nn.GroupNorm, nn.LayerNorm)
        return [
            f"{prefix}.{name}" if prefix else name
            for prefix, module in network.named_modules()
            if isinstance(module, kinds)
            for name, _ in module.named_parameters(recurse=False)
        ]


@dataclass(frozen=True)
class Biases(Selection):
    """Every bias."""

    def __call__(self, network: nn.Module) -> list[str]:
        """Names that end in ``bias``."""
        return [name for name, _ in network.named_parameters() if name.split(".")[-1] == "bias"]


@dataclass(frozen=True)
class Everything(Selection):
    """Every floating-point parameter."""

    def __call__(self, network: nn.Module) -> list[str]:
        """Names of all floating-point parameters."""
        return [name for name, p in network.named_parameters() if p.is_floating_point()]


@dataclass(frozen=True)
class Matching(Selection):
    """Parameters whose name contains a match of a regular expression.

    Args:
        pattern: for `re.search`, such as ``"^decoder"``.
    """

    pattern: str

    def __call__(self, network: nn.Module) -> list[str]:
        """Names that contain a match."""
        return [name for name, _ in network.named_parameters() if re.search(self.pattern, name)]


@dataclass(frozen=True)
class AttachedAffine(Selection):
    """A new scale of one and shift of zero for each BatchNorm and InstanceNorm that has none. It changes the network it is given.

    MONAI's default `UNet` and DynUNet's "instance" normalise without scale and shift. The network predicts the same to the last
    bit until they move. Only layers of a shadow get them, so the source network stays as it is.
    """

    def __call__(self, network: nn.Module) -> list[str]:
        """Names of the new parameters."""
        names = []
        like = next(network.parameters(), torch.zeros(()))
        for prefix, module in network.named_modules():
            if isinstance(module, AdaptiveNorm) and module.attach_affine(like):
                names += [f"{prefix}.weight", f"{prefix}.bias"] if prefix else ["weight", "bias"]
        return names


@dataclass(frozen=True)
class LastBiases(Selection):
    """The last quarter of a network's biases, at least one. In most networks they belong to the last decoder block."""

    def __call__(self, network: nn.Module) -> list[str]:
        """Names that end in ``bias``, without those of auxiliary heads, which have no part in the segmentation."""
        names = [name for name in Biases()(network) if not name.startswith("auxiliary_heads.")]
        return names[-max(1, len(names) // 4) :]


@dataclass(frozen=True)
class PromptParameters(Selection):
    """What a network has learnt of its prompts: embeddings of tasks, modalities, classes, points and masks, and their fusion.

    Found by name: parts of a name that contain ``prompt``, ``mask_token``, or ``task_embed``, ``modality_embed``,
    ``class_embed`` or ``point_embed``; with ``fusion`` also ``fusion`` or ``fuse``. These are the names of UniSeg (Ye et al.,
    MICCAI 2023, arXiv 2304.03493), SAM and MONAI's VISTA3D. For other names use `Matching`.

    Prompts may be drawn as large as features, so learning rates meant for scale and shift move them little.

    Args:
        fusion: whether the layers that mix a prompt with features move, too.
    """

    fusion: bool = True

    def __call__(self, network: nn.Module) -> list[str]:
        """Names of floating-point parameters that belong to prompts."""
        pattern = r"prompt|mask_token|(task|modality|class|point)_embed" + (r"|fusion|(^|[._])fuse" if self.fusion else "")
        return [name for name in Everything()(network) if re.search(pattern, name)]


@dataclass(frozen=True)
class Auto(Selection):
    """The first of `NormAffine`, `AttachedAffine` and `LastBiases` that finds anything."""

    def __call__(self, network: nn.Module) -> list[str]:
        """Names from the first selection that finds any."""
        return next((names for selection in self.alternatives if (names := selection(network))), [])

    @property
    def alternatives(self) -> tuple[Selection, ...]:
        """First what the papers move, then what comes nearest to it."""
        return NormAffine(), AttachedAffine(), LastBiases()


@dataclass(frozen=True)
class ExceptLast(Selection):
    """What another selection finds, but for the last layers: in most networks the end of the decoder.

    SAR spares the last block of a classifier in this way (Niu et al., ICLR 2023, arXiv 2302.12400).

    Args:
        inner: the other selection.
        share: of the layers that it finds, how many to leave out, in [0, 1); rounded down.

    Raises:
        ValueError: for a share out of range.
    """

    inner: Selection = Auto()
    share: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ValueError(f"share is in [0, 1), found {self.share}")

    def __call__(self, network: nn.Module) -> list[str]:
        """Names of the parameters of all but the last layers."""
        names = self.inner(network)
        layers = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
        spared = set(layers[len(layers) - int(self.share * len(layers)) :])
        return [name for name in names if name.rpartition(".")[0] not in spared]

    @property
    def alternatives(self) -> tuple[Selection, ...]:
        """Those of the other selection, each but for the last layers."""
        return tuple(ExceptLast(one, self.share) for one in self.inner.alternatives)

    @property
    def files(self) -> tuple[Path, ...]:
        """The other selection's."""
        return self.inner.files

    @property
    def record_name(self) -> str:
        """With the other selection as records call it."""
        return repr(self).replace(repr(self.inner), self.inner.record_name)
