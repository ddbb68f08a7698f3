"""What an unlabelled case shows of several candidate answers: plain numbers, which know nothing of a label.

A candidate is a method that is tried on a case. Its answer is looked at un-augmented, and averaged over views. The features are
those that a `monai_tta.quality.gain_predictor.GainPredictor` was fitted to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from monai_tta.core.objectives import Head, probabilities
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import answers_of_views
from monai_tta.core.views import Views
from monai_tta.quality.structure_features import own_figures, structure_table

# What a method says of itself, see `AdaptationMethod.candidate_features`: the blend of its statistics in [0, 1]; 1 for statistics
# of each window; learning rate times steps; 1 for the image edit that it makes; how far it moves the image to the source's look.
CANDIDATE_FEATURES = ("blend", "window statistics", "step size", *EDITS, "source moments", "source amplitudes")
# What an answer shows of itself: how far its views agree with their mean, on average and at least; its entropy, per voxel and per
# voxel of foreground; its uncertain voxels per voxel of foreground; its mean probability where it finds a structure.
ANSWER_FEATURES = (
    "view agreement",
    "least view agreement",
    "entropy",
    "entropy per foreground",
    "uncertain fraction",
    "confidence",
)
FEATURES = (
    *CANDIDATE_FEATURES,
    "averaged over views",
    *ANSWER_FEATURES,
    *(f"{name} - source" for name in ANSWER_FEATURES),
    "foreground fraction",
    "foreground growth",
    "agreement with the mean answer",
    "agreement with the averaged source",
    "agreement with the unadapted answer",
    "distance of early layers",
    "distance of middle layers",
    "distance of late layers",
)
TINY = 1e-4


@dataclass(frozen=True, eq=False)
class CandidateAnswer:
    """A candidate's answer for the adaptation windows.

    Args:
        probabilities: ``(N, K, *spatial)``, un-augmented or averaged over views.
        averaged: which of the two.
        candidate_features: the candidate's `CANDIDATE_FEATURES`, in their order.
        view_agreement: mean agreement of its views with their mean, in [0, 1].
        least_view_agreement: the least of these.
        by_structure: what `own_figures` says of it; None where nobody asked.
    """

    probabilities: Tensor
    averaged: bool
    candidate_features: tuple[float, ...]
    view_agreement: float
    least_view_agreement: float
    by_structure: Tensor | None = None


def candidate_row(features: Mapping[str, float]) -> tuple[float, ...]:
    """`CANDIDATE_FEATURES` in their order, from a method's `candidate_features`; 0 for what it leaves out.

    Raises:
        ValueError: for a name that gain predictors do not know.
    """
    if unknown := set(features) - set(CANDIDATE_FEATURES):
        raise ValueError(f"unknown candidate features {sorted(unknown)}; there are {', '.join(CANDIDATE_FEATURES)}")
    return tuple(float(features.get(name, 0.0)) for name in CANDIDATE_FEATURES)


@torch.no_grad()
def candidate_answers(
    shadow: Shadow, windows: Tensor, views: Views, candidate_features: tuple[float, ...], by_structure: bool = False
) -> tuple[CandidateAnswer, CandidateAnswer]:
    """A candidate's answers for the adaptation windows ``(N, C, *spatial)``: un-augmented, and averaged over views.

    Args:
        shadow: the candidate's, after it has adapted.
        windows: the adaptation windows.
        views: in which they are answered.
        candidate_features: the candidate's `CANDIDATE_FEATURES`.
        by_structure: whether figures of each structure are wanted, too.
    """
    of_views = answers_of_views(shadow, windows, views)
    mean = torch.stack(of_views).mean(0)
    agreements = [agreement(one, mean, shadow.head) for one in of_views]
    average = sum(agreements) / len(agreements)
    least = min(agreements)
    first, second = own_figures((of_views[0], mean), of_views, shadow.head) if by_structure else (None, None)
    unaugmented = CandidateAnswer(of_views[0], False, candidate_features, average, least, first)
    return unaugmented, CandidateAnswer(mean, True, candidate_features, average, least, second)


@torch.no_grad()
def unaugmented_answer(shadow: Shadow, windows: Tensor) -> Tensor:
    """The probabilities of a shadow's answer ``(N, K, *spatial)``, un-augmented."""
    return probabilities(at_least_float32(shadow(windows)), shadow.head)


def _answer_features(answer: CandidateAnswer, head: Head) -> dict[str, float]:
    p = answer.probabilities
    entropy = mean_entropy(p, head)
    figures = (
        answer.view_agreement,
        answer.least_view_agreement,
        entropy,
        entropy / (foreground_fraction(p, head) + TINY),
        uncertain_fraction(p, head),
        confidence(p, head),
    )
    return dict(zip(ANSWER_FEATURES, figures, strict=True))


def feature_table(answers: Sequence[CandidateAnswer], unadapted: Tensor, head: Head, distances: Sequence[float]) -> Tensor:
    """What a case shows of each answer.

    Args:
        answers: the candidates' answers, the source's own average over views first.
        unadapted: the source's answer, probabilities ``(N, K, *spatial)``.
        head: what the probabilities stand for.
        distances: of the windows' statistics from the source's, layer by layer (none: -1 in the table).

    Returns:
        a table (answers, `FEATURES`), float64.
    """
    figures_of_each = [_answer_features(answer, head) for answer in answers]
    mean_answer = torch.stack([answer.probabilities for answer in answers]).mean(0)
    averaged_source = answers[0].probabilities
    foreground_before = foreground_fraction(unadapted, head)
    layers = [-1.0 if d != d else d for d in mean_by_third(distances)]
    rows = []
    for answer, figures in zip(answers, figures_of_each, strict=True):
        p = answer.probabilities
        foreground = foreground_fraction(p, head)
        relative_to_source = [figures[name] - figures_of_each[0][name] for name in ANSWER_FEATURES]
        growth = log((foreground + TINY) / (foreground_before + TINY))
        agreements = [agreement(p, other, head) for other in (mean_answer, averaged_source, unadapted)]
        own = [*answer.candidate_features, answer.averaged, *figures.values()]
        rows.append([*own, *relative_to_source, foreground, growth, *agreements, *layers])
    return torch.tensor(rows, dtype=torch.float64)


def structure_tables(answers: Sequence[CandidateAnswer], unadapted: Tensor, head: Head, distances: Sequence[float]) -> Tensor:
    """What a case shows of each structure of each answer: ``(answers, structures, STRUCTURE_FEATURES)``, float64.

    Args:
        answers: described by structure.
        unadapted: the source's answer, probabilities ``(N, K, *spatial)``.
        head: what the probabilities stand for.
        distances: of the windows' statistics from the source's, layer by layer.
    """
    own = [(answer.by_structure, answer.probabilities) for answer in answers if answer.by_structure is not None]
    return torch.stack([structure_table(figures, p, unadapted, head, distances) for figures, p in own])


def mixture(answers: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted mean of probabilities; weights sum to 1."""
    return torch.stack([w * p for w, p in zip(weights, answers, strict=True)]).sum(0)


def as_logits(p: Tensor, head: Head) -> Tensor:
    """Logits whose probabilities are these."""
    return p.clamp_min(1e-12).log() if head == "softmax" else torch.logit(p, eps=1e-6)
