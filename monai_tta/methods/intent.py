"""InTEnt: integrate over entropy-weighted statistics (Dong, Konz, Gu, Mazurowski; CVPRW 2024; arXiv 2402.09604)."""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from monai_tta.core.method import Loss
from monai_tta.core.objectives import Head, class_log_probabilities
from monai_tta.core.record import Step
from monai_tta.core.shadow import Shadow
from monai_tta.methods.blend_average import BlendAverage, BlendShadow
from monai_tta.quality.features import as_logits


@dataclass(frozen=True, kw_only=True)
class InTEnt(BlendAverage):
    """Average the answers under six blends of statistics, the more certain ones with more weight; no weight of the network moves.

    Dong, Konz, Gu, Mazurowski, CVPRW 2024, arXiv 2402.09604. Each blend's score is its certainty: 1 minus its mean entropy, as a
    share of the largest. Scores are scaled to [0, 1] over the blends, and their softmax is the weights of the mean of the
    probabilities. It costs six forward passes where the source takes one, and seven of the adaptation windows. It keeps nothing.
    It needs running statistics in the network, so BatchNorm.

    Ours: present statistics and weights are one volume's, from its adaptation windows; the paper is about one photograph. For
    several classes the balanced entropy is the mean over predicted classes of the mean entropy of their voxels, which for a
    sigmoid channel is the paper's balance of foreground and background. The paper's sharpness score is left out.

    Args:
        balanced: whether each predicted class counts alike in the entropy, however few voxels it has. False: all voxels alike,
            so mostly background.
    """

    balanced: bool = True

    @property
    def learns(self) -> bool:
        """Yes: the weights of the answers."""
        return True

    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """Weight the blends by how certain their answers for the adaptation windows are."""
        assert isinstance(shadow, BlendShadow)
        with torch.no_grad():
            entropies = [relative_entropy(p, shadow.head, self.balanced) for p in shadow.answers(windows)]
        shadow.weights = weights_of(entropies)
        notes = {f"weight of blend {blend:g}": weight for blend, weight in zip(self.blends, shadow.weights, strict=True)}
        return (Step(notes=notes),)


def weights_of(entropies: list[float]) -> list[float]:
    """The softmax of certainties, 1 minus entropy, that are scaled to [0, 1]; equal weights where all are alike."""
    certain = 1 - torch.tensor(entropies, dtype=torch.float64)
    spread = certain.max() - certain.min()
    scores = (certain - certain.min()) / spread if float(spread) > 0 else torch.zeros_like(certain)
    weights: list[float] = scores.softmax(0).tolist()
    return weights


def relative_entropy(p: Tensor, head: Head, balanced: bool) -> float:
    """Mean entropy of probabilities ``(N, K, *spatial)`` as a share of the largest, in [0, 1]; the mean over sigmoid channels.

    Args:
        p: the probabilities.
        head: what they stand for.
        balanced: whether the classes that are predicted somewhere count alike.
    """
    log_p = class_log_probabilities(as_logits(p, head), head)
    entropy = -(log_p.exp() * log_p).sum(2) / log(log_p.shape[2])
    if not balanced:
        return float(entropy.mean())
    predicted = log_p.argmax(2)
    found = []
    for question in range(entropy.shape[1]):
        own, labels = entropy[:, question], predicted[:, question]
        found.append(torch.stack([own[labels == label].mean() for label in labels.unique()]).mean())
    return float(torch.stack(found).mean())
