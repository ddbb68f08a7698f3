"""A panel of candidates: what each answers, seen from several sides, and what an unlabelled case thereby shows of it.

The features are those of `monai_tta.judge`; all are plain numbers that know nothing of a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from monai_tta.objectives import probabilities
from monai_tta.precision import widened
from monai_tta.retouch import WAYS
from monai_tta.shadow import Shadow
from monai_tta.signals import agreement, confidence, mean_entropy, share, thirds, uncertain
from monai_tta.tasks import posed_answers
from monai_tta.views import Views

OWN = ("agreement", "least", "entropy", "doubt", "uncertain", "confidence")
MARKS = ("blend", "by window", "reach", *WAYS)
FEATURES = (
    *MARKS,
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
UNMARKED = (0.0,) * len(MARKS)


@dataclass(frozen=True, eq=False)
class Opinion:
    """One answer for the teaching windows: probabilities ``(N, K, *spatial)``, from the front alone or averaged over views;
    the candidate's `MARKS`: blend in [0, 1], 1 for statistics of each window, reach (learning rate times steps), 1 for how it
    retouches; how far its views agree with their mean, on average and at least."""

    p: Tensor
    averaged: bool
    marks: tuple[float, ...]
    agreement: float
    least: float


@torch.no_grad()
def opinions(shadow: Shadow, windows: Tensor, views: Views, marks: tuple[float, ...] = UNMARKED) -> tuple[Opinion, Opinion]:
    """What a candidate answers for the teaching windows ``(N, C, *spatial)``: from the front, and averaged over all sides."""
    seen = posed_answers(shadow, windows, views)
    mean = torch.stack(seen).mean(0)
    fits = [agreement(one, mean, shadow.head) for one in seen]
    figures = (marks, sum(fits) / len(fits), min(fits))
    return Opinion(seen[0], False, *figures), Opinion(mean, True, *figures)


@torch.no_grad()
def plain_answer(shadow: Shadow, windows: Tensor) -> Tensor:
    """The probabilities of a shadow's answer as it is, from the front alone."""
    return probabilities(widened(shadow(windows)), shadow.head)


def _own(opinion: Opinion, head: str) -> dict[str, float]:
    entropy, part = mean_entropy(opinion.p, head), share(opinion.p, head)
    figures = (entropy, entropy / (part + TINY), uncertain(opinion.p, head), confidence(opinion.p, head))
    return dict(zip(OWN, (opinion.agreement, opinion.least, *figures), strict=True))


def describe(said: Sequence[Opinion], plain: Tensor, head: str, distances: Sequence[float]) -> Tensor:
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
    before = share(plain, head)
    layers = [-1.0 if d != d else d for d in thirds(distances)]
    rows = []
    for o, figures in zip(said, own, strict=True):
        part = share(o.p, head)
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
