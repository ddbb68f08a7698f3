"""What a gain predictor is fitted to: cases whose labels are known, as figures and masks without their pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_tta.core.label_free_metrics import hard_masks, voxels_last
from monai_tta.core.objectives import Head
from monai_tta.core.source_look import SourceLook
from monai_tta.core.views import Views
from monai_tta.evaluation.surface_dice import structure_nsd
from monai_tta.quality.gain_predictor import Floats
from monai_tta.quality.structure_features import STRUCTURE_FEATURES

Masks = NDArray[np.bool_]
GIVEN = "given"
OWN_ANSWERS = "the source's own answers"


@dataclass(frozen=True, eq=False)
class CalibrationCase:
    """One distorted image on which all candidates were run.

    Args:
        group: number of the image that was distorted.
        source_features: features of the source's own two answers ``(2, features)``, known before any candidate runs.
        features: features of all candidate answers ``(answers, features)``.
        gains: gain in Dice of each answer over the unadapted one.
        unadapted_dice: Dice of the unadapted answer, the mean over the structures in the label.
        structure_features: of each structure of each answer ``(answers, structures, STRUCTURE_FEATURES)``; no rows where nobody
            asked.
        structure_dice: Dice of each structure of each answer ``(answers, structures)``. Where a structure is not in the label it
            is 1 for an empty mask and 0 for any other.
        structure_nsd: normalised surface Dice of the same, see `structure_nsd`.
        temperature_scores: NLL and calibration error of the unadapted answer at each of `TEMPERATURES`, ``(temperatures, 2)``.
    """

    group: int
    source_features: Floats
    features: Floats
    gains: Floats
    unadapted_dice: float
    # What scoring a mixture takes: probabilities (answers, K, voxels) and label (K', voxels), only of voxels that some answer or
    # the label has a structure in, and each structure's number of voxels in the whole label.
    _probabilities: NDArray[np.float16]
    _label: Masks
    _label_sizes: NDArray[np.int64]
    _head: Head
    structure_features: Floats = field(default_factory=lambda: np.empty((0, 0, len(STRUCTURE_FEATURES))))
    structure_dice: Floats = field(default_factory=lambda: np.empty((0, 0)))
    structure_nsd: Floats = field(default_factory=lambda: np.empty((0, 0)))
    temperature_scores: Floats = field(default_factory=lambda: np.empty((0, 2)))

    def gain_of(self, weights: Floats) -> float:
        """Gain in Dice of the answers mixed with these weights; 0 for weights of zero, which mean the unadapted answer."""
        if weights.sum() <= 0:
            return 0.0
        mixed = np.tensordot(weights, self._probabilities.astype(np.float64), 1)
        return _dice(_segmented(mixed, self._head), self._label, self._label_sizes) - self.unadapted_dice


@dataclass
class CalibrationSet:
    """The calibration cases of one source network.

    Args:
        name: what the network is called.
        cases: its cases.
        labels: what their gains are measured against, in words: labels that were `GIVEN`, or the source's `OWN_ANSWERS`.
        look: of the source's images.
        network: the network's digest; of several that answer together, theirs with spaces between.
        quick: whether few candidates were tried in few views.
        views: in which candidates answered.
        agreement: in words, how far the views agree with the plain answer; empty where nobody measured it.
        undistorted: cases of the images as they are, on which nothing but the source was tried; for the quality predictor.
    """

    name: str
    cases: list[CalibrationCase] = field(default_factory=list)
    labels: str = GIVEN
    look: SourceLook | None = None
    network: str = ""
    quick: bool = False
    views: Views | None = None
    agreement: str = ""
    undistorted: list[CalibrationCase] = field(default_factory=list)

    @property
    def tried_others(self) -> bool:
        """Whether anything else than the source answered: its two answers are not all that there are."""
        return any(len(case.gains) > 2 for case in self.cases)

    def add(
        self,
        group: int,
        source_features: Tensor,
        features: Tensor,
        answers: Tensor,
        unadapted: Tensor,
        label: Tensor,
        head: Head,
        structure_features: Tensor | None = None,
        temperature_scores: Floats | None = None,
    ) -> CalibrationCase | None:
        """Add a case. One whose label is empty has no Dice and is left out.

        Voxels are sorted by their values. No Dice depends on their order, and no shape can be seen in what is kept. A surface has
        a shape, so what is right of it is measured before.

        Args:
            group: number of the image that was distorted.
            source_features: of the source's own answers ``(2, features)``.
            features: of all answers ``(answers, features)``.
            answers: probabilities ``(answers, N, K, *spatial)``.
            unadapted: the source's probabilities ``(N, K, *spatial)``.
            label: structures ``(N, K', *spatial)``, boolean.
            head: what the probabilities stand for.
            structure_features: of each answer's structures ``(answers, structures, STRUCTURE_FEATURES)``; None for none.
            temperature_scores: what `scores_by_temperature` returned; None for none.

        Returns:
            the case; None where it is left out.
        """
        whole_label = voxels_last(label)
        label_sizes = whole_label.sum(1).numpy().astype(np.int64)
        if not label_sizes.any():
            return None
        of_source, kept, kept_label = _without_shape(unadapted, answers, whole_label, head)
        masks = [_segmented(answer.astype(np.float64), head) for answer in kept]
        unadapted_dice = _dice(_segmented(of_source, head), kept_label, label_sizes)
        described: dict[str, Floats] = {}
        if structure_features is not None:
            described["structure_features"] = structure_features.numpy()
            described["structure_dice"] = np.stack([structure_dice(mask, kept_label, label_sizes) for mask in masks])
            described["structure_nsd"] = np.stack([structure_nsd(hard_masks(answer.half(), head), label) for answer in answers])
        if temperature_scores is not None:
            described["temperature_scores"] = temperature_scores
        case = CalibrationCase(
            group=group,
            source_features=source_features.numpy(),
            features=features.numpy(),
            gains=np.array([_dice(mask, kept_label, label_sizes) - unadapted_dice for mask in masks]),
            unadapted_dice=unadapted_dice,
            _probabilities=kept,
            _label=kept_label,
            _label_sizes=label_sizes,
            _head=head,
            **described,
        )
        self.cases.append(case)
        return case


def _without_shape(unadapted: Tensor, answers: Tensor, label: Tensor, head: Head) -> tuple[Floats, NDArray[np.float16], Masks]:
    """Probabilities of the source ``(K, voxels)`` and of all answers ``(answers, K, voxels)``, and the label ``(K', voxels)``.

    Voxels are sorted by their values. Where all answers are background, so is every mixture of them: such voxels change no Dice
    and are left out.
    """
    of_source = voxels_last(unadapted)
    of_answers = torch.stack([voxels_last(answer) for answer in answers])
    matters = label.any(0)
    for probabilities in (of_source, *of_answers):
        matters |= hard_masks(probabilities[None], head)[0].any(0)
    kept: NDArray[np.float16] = of_answers[:, :, matters].half().numpy()
    kept_label: Masks = label[:, matters].numpy()
    order = np.lexsort((*kept.reshape(-1, kept.shape[-1]), *kept_label))
    return of_source[:, matters].double().numpy()[:, order], kept[..., order], kept_label[..., order]


def _segmented(probabilities: Floats, head: Head) -> Masks:
    """Probabilities ``(K, voxels)`` -> structures ``(K', voxels)``."""
    masks: Masks = hard_masks(torch.from_numpy(probabilities)[None], head)[0].numpy()
    return masks


def structure_dice(masks: Masks, label: Masks, label_sizes: NDArray[np.int64]) -> Floats:
    """Dice of each structure; of one that is not in the label, 1 for an empty mask and 0 for any other.

    Args:
        masks: ``(structures, voxels)``, where all voxels of any mask are.
        label: ``(structures, voxels)``.
        label_sizes: voxels of each structure in the whole label.
    """
    total = masks.sum(1) + label_sizes
    overlap = (masks & label).sum(1)
    return np.where(total > 0, 2 * overlap / np.maximum(total, 1), 1.0)


def _dice(masks: Masks, label: Masks, label_sizes: NDArray[np.int64]) -> float:
    """Mean Dice over the structures that are in the label."""
    present = label_sizes > 0
    overlap = (masks & label).sum(1)[present]
    return float((2 * overlap / (masks.sum(1) + label_sizes)[present]).mean())
