"""How good an answer is, by MONAI's metrics: Dice, NSD, HD95 and ASSD of each label, and what becomes of empty masks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from math import nan
from typing import Any

import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.metrics import DiceMetric, HausdorffDistanceMetric, SurfaceDiceMetric, SurfaceDistanceMetric
from torch import Tensor

from monai_tta.reporting.rows import METRICS, Score


def scores_of(data: dict[str, Any], metrics: Sequence[str] = METRICS, tolerance: float = 1.0) -> tuple[Score, ...]:
    """Score each foreground label of a case, once the bundle's postprocessing is through.

    Several one-hot channels begin with the background, which is left out; nested channels don't. Distances are in the
    spacing of the label (else of the image): millimetres where its file knows them, pixels where it doesn't.

    A label that is not in the truth has no score at all, whether found ("invented") or not ("absent"). One that is, and
    isn't found ("missed"), has Dice 0 and NSD 0, and no distances.

    Args:
        data: "pred" and "label", binary, ``(channels, *spatial)`` each.
        metrics: which of "dice", "nsd", "hd95", "assd" are computed; the others are NaN.
        tolerance: NSD takes a border this far away, at most, for right; in the unit of the spacing.

    Raises:
        ValueError: when answer and truth have different shapes.
    """
    pred, label = (_plain(data[k]) for k in ("pred", "label"))
    if pred.shape != label.shape:
        raise ValueError(f"the answer is {tuple(pred.shape)} and the label {tuple(label.shape)} after the postprocessing")
    exclusive = len(pred) > 1 and bool((pred.sum(0) == 1).all())
    pred, label = (pred[1:], label[1:]) if exclusive else (pred, label)
    spacing = _spacing(data["label"], data.get("image"), pred.ndim - 1)
    return tuple(_score(p[None, None], t[None, None], metrics, tolerance, spacing) for p, t in zip(pred, label, strict=True))


def _score(pred: Tensor, label: Tensor, metrics: Sequence[str], tolerance: float, spacing: list[float]) -> Score:
    """One label, ``(1, 1, *spatial)`` each."""
    found, there = bool(pred.any()), bool(label.any())
    if not there:
        return Score(nan, reason="invented" if found else "absent")
    if not found:
        return Score(0.0, 0.0 if "nsd" in metrics else nan, reason="missed")
    known: dict[str, Callable[[], Any]] = {
        "dice": lambda: DiceMetric(include_background=True)(pred, label),
        "nsd": lambda: SurfaceDiceMetric([tolerance], include_background=True)(pred, label, spacing=spacing),
        "hd95": lambda: HausdorffDistanceMetric(include_background=True, percentile=95)(pred, label, spacing=spacing),
        "assd": lambda: SurfaceDistanceMetric(include_background=True, symmetric=True)(pred, label, spacing=spacing),
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*always_return_as_numpy.*", FutureWarning)  # of MONAI 1.6's calls to itself
        dice, nsd, hd95, assd = (float(known[name]()) if name in metrics else nan for name in METRICS)
    return Score(dice, nsd, hd95, assd)


def _plain(value: Any) -> Tensor:
    return torch.as_tensor(value.as_tensor() if isinstance(value, MetaTensor) else value).detach().cpu()


def _spacing(label: Any, image: Any, dims: int) -> list[float]:
    """What lies between neighbouring voxels along each axis, 1 where nobody knows."""
    for value in (label, image):
        if isinstance(value, MetaTensor):
            return [float(s) for s in affine_to_spacing(value.affine, r=dims)]
    return [1.0] * dims
