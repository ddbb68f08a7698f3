"""A panel of candidates: what each answers, seen from several sides, and what an unlabelled case thereby shows of it.

The features are those of `monai_tta.quality.gain_predictor`; all are plain numbers that know nothing of a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from monai_tta.compute.precision import at_least_float32
from monai_tta.core.image_edits import EDITS
from monai_tta.core.label_free_metrics import (
    agreement,
    confidence,
    foreground_fraction,
    mean_by_third,
    mean_entropy,
    uncertain_fraction,
)
from monai_tta.core.objectives import probabilities
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import answers_of_views
from monai_tta.core.views import Views

OWN = ("agreement", "least", "entropy", "doubt", "uncertain", "confidence")
CANDIDATE_FEATURES = ("blend", "by window", "reach", *EDITS)
FEATURES = (
    *CANDIDATE_FEATURES,
    "averaged",
    *OWN,
    *(f"{name} - source" for name in OWN),
    "share",
    "growth",
    "consensus",
    "likeness",
    "likeness to plain",
    "early",
    "middle",
    "late",
)
TINY = 1e-4
NO_FEATURES = (0.0,) * len(CANDIDATE_FEATURES)


@dataclass(frozen=True, eq=False)
class CandidateAnswer:
    """One answer for the teaching windows: probabilities ``(N, K, *spatial)``, from the front alone or averaged over views;
    the candidate's `CANDIDATE_FEATURES`: blend in [0, 1], 1 for statistics of each window, reach (learning rate times steps), 1 for how it
    retouches; how far its views agree with their mean, on average and at least."""

    p: Tensor
    averaged: bool
    marks: tuple[float, ...]
    agreement: float
    least: float


@torch.no_grad()
def candidate_answers(
    shadow: Shadow, windows: Tensor, views: Views, marks: tuple[float, ...] = NO_FEATURES
) -> tuple[CandidateAnswer, CandidateAnswer]:
    """What a candidate answers for the teaching windows ``(N, C, *spatial)``: from the front, and averaged over all sides."""
    seen = answers_of_views(shadow, windows, views)
    mean = torch.stack(seen).mean(0)
    fits = [agreement(one, mean, shadow.head) for one in seen]
    figures = (marks, sum(fits) / len(fits), min(fits))
    return CandidateAnswer(seen[0], False, *figures), CandidateAnswer(mean, True, *figures)


@torch.no_grad()
def plain_answer(shadow: Shadow, windows: Tensor) -> Tensor:
    """The probabilities of a shadow's answer as it is, from the front alone."""
    return probabilities(at_least_float32(shadow(windows)), shadow.head)


def _own(opinion: CandidateAnswer, head: str) -> dict[str, float]:
    entropy, part = mean_entropy(opinion.p, head), foreground_fraction(opinion.p, head)
    figures = (entropy, entropy / (part + TINY), uncertain_fraction(opinion.p, head), confidence(opinion.p, head))
    return dict(zip(OWN, (opinion.agreement, opinion.least, *figures), strict=True))


def describe(said: Sequence[CandidateAnswer], plain: Tensor, head: str, distances: Sequence[float]) -> Tensor:
    """What a case shows of each answer.

    Args:
        said: the candidates' answers, the source's own view average first.
        plain: the source's answer as it is, probabilities ``(N, K, *spatial)``.
        head: "softmax" or "sigmoid".
        distances: of the windows' statistics from the source's, layer by layer (none: -1 in the table).

    Returns:
        a table (answers, `FEATURES`), float64.
    """
    own = [_own(o, head) for o in said]
    consensus = torch.stack([o.p for o in said]).mean(0)
    before = foreground_fraction(plain, head)
    layers = [-1.0 if d != d else d for d in mean_by_third(distances)]
    rows = []
    for o, figures in zip(said, own, strict=True):
        part = foreground_fraction(o.p, head)
        relative = [figures[name] - own[0][name] for name in OWN]
        growth = log((part + TINY) / (before + TINY))
        likeness = agreement(o.p, consensus, head), agreement(o.p, said[0].p, head), agreement(o.p, plain, head)
        rows.append([*o.marks, o.averaged, *figures.values(), *relative, part, growth, *likeness, *layers])
    return torch.tensor(rows, dtype=torch.float64)


def mixture(answers: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted mean of probabilities; weights sum to 1."""
    return torch.stack([w * p for w, p in zip(weights, answers, strict=True)]).sum(0)


def as_logits(p: Tensor, head: str) -> Tensor:
    """Logits whose probabilities are these."""
    return p.clamp_min(1e-12).log() if head == "softmax" else torch.logit(p, eps=1e-6)
