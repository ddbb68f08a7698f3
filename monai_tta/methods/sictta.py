"""SicTTA: single-image continual test-time adaptation (Wu et al.; Medical Image Analysis 2026; HiLab-git/SicTTA), in part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_tta.core.bank_shadow import BankShadow
from monai_tta.core.deep_features import logits_and_deepest, pooled
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.method import AdaptationMethod, Loss
from monai_tta.core.norm_uses import MeanAndVariance, joint, mixed, running_statistics
from monai_tta.core.normalization import AdaptiveNorm
from monai_tta.core.objectives import Head
from monai_tta.core.record import Step
from monai_tta.core.shadow import Shadow

CaseStatistics = list[list[MeanAndVariance | None]]  # by layer and use; None for a use that keeps the source's


class CaseShadow(BankShadow):
    """A shadow that remembers the statistics of earlier cases.

    Attributes:
        bank: deepest features ``(F,)`` of earlier cases, each with its statistics.
        norms: the layers that these are of.
    """

    def __init__(self, source: nn.Module, head: Head, bank_size: int) -> None:
        super().__init__(source, head, None, "volume", 1.0, bank_size)
        self.norms = [m for m in self.module.modules() if isinstance(m, AdaptiveNorm) and m.has_running_stats]
        if not self.norms:
            raise CannotAdapt(f"{self.kind} keeps no running statistics of its training, in whose place a case's could be put")

    def pool_statistics(self, windows: Tensor, unbiased: bool = False) -> None:
        """Nothing: `statistics_of` pools them, and `use` says which are used."""

    def statistics_of(self, windows: Tensor) -> CaseStatistics:
        """A case's own statistics, pooled over its windows ``(N, C, *spatial)``."""
        self.use(None)
        super().pool_statistics(windows)
        return [list(layer.pooled) for layer in self.norms]

    def use(self, statistics: CaseStatistics | None) -> None:
        """Normalise by these statistics from now on; None for the source's."""
        for number, layer in enumerate(self.norms):
            layer.pooled = () if statistics is None else tuple(statistics[number])


@dataclass(frozen=True, kw_only=True)
class SicTTA(AdaptationMethod):
    """Use normalisation statistics of this case and of its most alike earlier ones together; nothing is learnt by gradients.

    Wu et al., Medical Image Analysis 108 (103859), 2026; code at HiLab-git/SicTTA. A single case's statistics are uncertain. The
    paper sends five alike earlier images through the network with each new one, so that statistics come from six. Alike
    are those whose deepest features, under the source's statistics, have the largest cosine with the present ones.

    It is meant for streams (reset="never"). It costs two forward passes of the adaptation windows and no backward pass. It keeps
    means and variances of each layer and pooled features of earlier patients, as many cases as ``bank_size``; the paper keeps
    their images, which here nobody needs. It needs running statistics in the network, so BatchNorm.

    Ours: this is a part of the paper. An earlier case's statistics are those that it had when its features were normalised by
    its own statistics; in the paper all six images are normalised together at each layer. Features are averaged over
    space before they are compared, because positions in two patients do not correspond. For the same reason the features
    themselves are not mixed, as the paper does. Every case enters the bank; there is no test of whether its answer is reliable.
    With an empty bank a case's own statistics are used, where the authors' code answers as the source does.

    Args:
        blend: share of these statistics in a mixture with the source's, in [0, 1].
        neighbors: how many earlier cases lend their statistics, 0 or more; fewer where the bank holds fewer.
        bank_size: how many cases the bank keeps, the latest; 0 for none.

    Raises:
        ValueError: for choices out of range.
    """

    blend: float = 1.0
    neighbors: int = 5
    bank_size: int = 40

    def __post_init__(self) -> None:
        if not 0 <= self.blend <= 1 or self.neighbors < 0 or self.bank_size < 0:
            raise ValueError(
                "blend is in [0, 1], neighbors and bank_size are 0 or more, found "
                f"{self.blend}, {self.neighbors} and {self.bank_size}"
            )

    @property
    def default_budget(self) -> int:
        """Four, as wherever statistics are taken over windows."""
        return 4

    @property
    def is_continual(self) -> bool:
        """Yes: without earlier cases there are the present one's statistics alone."""
        return True

    @property
    def candidate_features(self) -> Mapping[str, float]:
        """Its blend."""
        return {"blend": self.blend}

    def begin(self, source: nn.Module, head: Head) -> Shadow:
        """A shadow with an empty bank.

        Raises:
            CannotAdapt: for a network without running statistics.
        """
        return CaseShadow(source, head, self.bank_size)

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Zero: nothing is learnt by gradients."""
        return windows.new_zeros(())

    @torch.no_grad()
    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """Use the statistics of these windows and of the most alike cases in the bank; add these to the bank."""
        assert isinstance(shadow, CaseShadow)
        shadow.use(None)
        _, features = logits_and_deepest(shadow, windows)
        key = pooled(features).mean(0)
        own = shadow.statistics_of(windows)
        cosines = [float(F.cosine_similarity(key, earlier.to(key), dim=0)) for earlier, _ in shadow.bank]
        nearest = sorted(range(len(cosines)), key=lambda n: -cosines[n])[: self.neighbors]
        cases = [own, *(shadow.bank[n][1] for n in nearest)]
        shadow.use([self._together(layer, [case[k] for case in cases]) for k, layer in enumerate(shadow.norms)])
        shadow.bank.append((key, own))
        notes = {"alike cases": float(len(nearest))}
        if nearest:
            notes["mean cosine"] = sum(cosines[n] for n in nearest) / len(nearest)
        return (Step(notes=notes),)

    def _together(self, layer: AdaptiveNorm, cases: list[list[MeanAndVariance | None]]) -> list[MeanAndVariance | None]:
        """Mean and variance of all cases' features together, by use of a layer, mixed with the source's."""
        uses: list[MeanAndVariance | None] = []
        for each in zip(*cases, strict=True):
            found = [one for one in each if one is not None]
            if not found:
                uses.append(None)
                continue
            uses.append(mixed(running_statistics(layer), joint(found), self.blend))
        return uses
