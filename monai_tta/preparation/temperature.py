"""The temperature that makes a network's probabilities honest: one number, by which its logits are divided.

Guo et al. 2017, arXiv 1706.04599. It is the one with the least negative log-likelihood of the labels, over all calibration cases.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics import CalibrationErrorMetric, CalibrationReduction
from torch import Tensor

from monai_tta.core.label_free_metrics import structures, voxels_last
from monai_tta.core.objectives import Head
from monai_tta.quality.gain_predictor import Floats
from monai_tta.quality.temperature import with_temperature

TEMPERATURES = tuple(round(float(2 ** (k / 4)), 4) for k in range(-6, 13))  # from 0.35 to 8, a fourth root of two apart
LEAST_PROBABILITY = 1e-7
MOST_VOXELS = 100_000  # of a case, evenly spread: enough for one number, and quick in volumes of many structures


def scores_by_temperature(unadapted: Tensor, label: Tensor, head: Head) -> Floats:
    """Negative log-likelihood in nats per voxel, and expected calibration error (20 bins), at each of `TEMPERATURES`.

    Args:
        unadapted: probabilities ``(N, K, *spatial)``.
        label: structures ``(N, K', *spatial)``, boolean.
        head: what the probabilities stand for.

    Returns:
        ``(temperatures, 2)``. Both are means over the structures, each against the rest.
    """
    some = voxels_last(unadapted.float())
    step = -(-some.shape[1] // MOST_VOXELS)
    some = some[None, :, ::step].contiguous()
    truth = voxels_last(label)[None, :, ::step].contiguous()
    rows = []
    for temperature in TEMPERATURES:
        p = structures(with_temperature(some, head, temperature), head)
        of_truth = torch.where(truth, p, 1 - p).clamp_min(LEAST_PROBABILITY)
        metric = CalibrationErrorMetric(calibration_reduction=CalibrationReduction.EXPECTED)
        metric(y_pred=p, y=truth.float())
        rows.append((float(-of_truth.log().mean()), float(torch.as_tensor(metric.aggregate()))))
    return np.array(rows)


def best_temperature(scores: Sequence[Floats], folds: Sequence[int]) -> tuple[float, float, float]:
    """The temperature with the least mean negative log-likelihood.

    Args:
        scores: what `scores_by_temperature` returned for each case.
        folds: of each case; at least two.

    Returns:
        the temperature, the mean calibration error without it, and that with the temperature of the other folds.
    """
    table = np.stack(scores)
    fold_of = np.array(folds)
    after = np.zeros(len(table))
    for fold in set(folds):
        inside = fold_of == fold
        after[inside] = table[inside][:, _least(table[~inside]), 1]
    return TEMPERATURES[_least(table)], float(table[:, TEMPERATURES.index(1.0), 1].mean()), float(after.mean())


def _least(table: Floats) -> int:
    """The number of the temperature with the least mean negative log-likelihood in ``(cases, temperatures, 2)``."""
    return int(table[:, :, 0].mean(0).argmin())
