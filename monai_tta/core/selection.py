"""What may move, by name: which parameters of a shadow a method may change."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from monai_tta.core.normalization import AdaptiveNorm

__all__ = ["Selection", "NormAffine", "Biases", "Everything", "Matching", "AttachedAffine", "LastBiases", "Auto"]


class Selection(ABC):
    """Which parameters may move, as a function of the network."""

    @property
    def alternatives(self) -> tuple[Selection, ...]:
        """The selections to try in order; the first that finds anything is taken and named on the case's record."""
        return (self,)

    @abstractmethod
    def __call__(self, network: nn.Module) -> list[str]:
        """Names of the parameters that may move, in the network's own order."""


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
        """All parameter names."""
        return [name for name, p in network.named_parameters() if p.is_floating_point()]


@dataclass(frozen=True)
class Matching(Selection):
    """Parameters whose name contains a match of a regular expression."""

    pattern: str

    def __call__(self, network: nn.Module) -> list[str]:
        """Names in which ``pattern`` is found."""
        return [name for name, _ in network.named_parameters() if re.search(self.pattern, name)]


@dataclass(frozen=True)
class AttachedAffine(Selection):
    """A scale of one and a shift of zero, put on every Batch- and InstanceNorm of a shadow that has none.

    MONAI's default `UNet` and DynUNet's "instance" normalise without scale and shift. At the start the answer is the
    same to the last bit; the source network gets nothing.
    """

    def __call__(self, network: nn.Module) -> list[str]:
        """Names of what was attached."""
        names = []
        like = next(network.parameters(), torch.zeros(()))
        for prefix, module in network.named_modules():
            if isinstance(module, AdaptiveNorm) and module.attach(like):
                names += [f"{prefix}.weight", f"{prefix}.bias"] if prefix else ["weight", "bias"]
        return names


@dataclass(frozen=True)
class LastBiases(Selection):
    """The last quarter of a network's biases (at least one): those of its last decoder block, in most networks."""

    def __call__(self, network: nn.Module) -> list[str]:
        """Names that end in ``bias``, in the network's own order; not those of auxiliary heads, which answer no window."""
        names = [name for name in Biases()(network) if not name.startswith("auxiliary_heads.")]
        return names[-max(1, len(names) // 4) :]


@dataclass(frozen=True)
class Auto(Selection):
    """The first of these that finds anything: `NormAffine`, `AttachedAffine`, `LastBiases`."""

    def __call__(self, network: nn.Module) -> list[str]:
        """Names, by the first selection that has any."""
        return next((names for selection in self.alternatives if (names := selection(network))), [])

    @property
    def alternatives(self) -> tuple[Selection, ...]:
        """From what the papers move to what is nearest to it."""
        return NormAffine(), AttachedAffine(), LastBiases()
